"""The typed tables of a stream as assets, downstream of its events. What a table holds is `tables`'s to say."""

import dagster as dg

from jetstream_pipeline import __version__
from jetstream_pipeline.orchestration.consumers import consumer_asset
from jetstream_pipeline.orchestration.metadata import Metadata, table_lineage, table_schema
from jetstream_pipeline.storage.days import held
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import Table
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window


def table_asset(stream: Stream, table: Table, events: dg.AssetKey) -> dg.AssetsDefinition:
    """`<stream>/<table>`: each partition is derived from the same partition of `<stream>/events`."""

    def build(window: Window) -> Metadata:
        with held(stream.data, stream.name, [window]):
            stream.make_way(window, table.name)
            summary = build_table(table, stream.name, window, stream.data.lake)
        refresh(stream.data)
        if lag := stream.follow(table.name):
            # The file stands; whoever asked for the run asks again, until its table shows it.
            raise lag
        return {
            "dagster/partition_row_count": dg.MetadataValue.int(summary.rows),
            "bytes": dg.MetadataValue.int(summary.bytes),
            "seconds": dg.MetadataValue.float(round(summary.seconds, 3)),
            "path": dg.MetadataValue.path(str(summary.path)),
        }

    return consumer_asset(
        stream,
        table.name,
        events,
        build,
        description=table.description,
        kinds={"duckdb", "parquet"},
        code_version=__version__,
        metadata={
            "dagster/column_schema": table_schema(table),
            "dagster/column_lineage": table_lineage(table, events),
            "dagster/table_name": table.name,
            "dagster/storage_kind": "parquet",
        },
    )
