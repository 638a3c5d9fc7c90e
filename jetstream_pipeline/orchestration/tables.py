"""The typed tables of a stream as assets, downstream of its events. What a table holds is `tables`'s to say."""

import dagster as dg

from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.partitions import hourly
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import Table
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window


def table_asset(stream: str, table: Table, settings: Settings) -> dg.AssetsDefinition:
    """`<stream>/<table>`: each partition is derived from the same partition of `<stream>/events`."""

    @dg.asset(
        key=[stream, table.name],
        deps=[dg.AssetKey([stream, "events"])],
        partitions_def=hourly(settings),
        group_name=stream,
        kinds={"duckdb", "parquet"},
        description=table.description,
        metadata={"dagster/column_schema": _column_schema(table)},
        retry_policy=dg.RetryPolicy(max_retries=2, delay=10, jitter=dg.Jitter.FULL),
    )
    def build(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with told_to_dagster():
            data = DataDirectory(settings.data_dir)
            summary = build_table(table, stream, Window.from_key(context.partition_key), data.lake)
            refresh(data)
        return dg.MaterializeResult(
            metadata={
                "dagster/partition_row_count": summary.rows,
                "bytes": summary.bytes,
                "seconds": round(summary.seconds, 3),
                "path": dg.MetadataValue.path(summary.path),
            }
        )

    return build


def _column_schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        [dg.TableColumn(column.name, column.type, description=column.description) for column in table.columns]
    )
