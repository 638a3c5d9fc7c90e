"""Tables read by engines that are not ours: polars' own reader of Iceberg, and DuckDB over the files of a scan."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import SecretStr
from pyiceberg.table import Table

from jetstream_pipeline.iceberg.catalogue import opened
from jetstream_pipeline.iceberg.contents import lake_files
from jetstream_pipeline.storage.layout import DataDirectory

SQLITE = SecretStr("sqlite")


@contextmanager
def table(data: DataDirectory, name: str = "events", catalogue: SecretStr = SQLITE) -> Iterator[Table]:
    with opened(catalogue, data) as found:
        yield found.load_table(f"jetstream_network.{name}")


def by_polars(found: Table, snapshot: int | None = None) -> pa.Table:
    """But for the hour, which only the files of days have."""
    scan = pl.scan_iceberg(found, reader_override="native", snapshot_id=snapshot)
    return ordered(scan.drop("hour", strict=False).collect().to_arrow())


def by_duckdb(found: Table) -> pa.Table:
    paths = [task.file.file_path.removeprefix("file://") for task in found.scan().plan_files()]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return ordered(connection.read_parquet(paths).to_arrow_table())


def lake_rows(data: DataDirectory, name: str = "events") -> pa.Table:
    return ordered(pa.concat_tables(read(file.path) for file in lake_files(data.lake, "network", name)))


def read(path: Path) -> pa.Table:
    return pq.ParquetFile(path).read()


def ordered(rows: pa.Table) -> pa.Table:
    """Rows in one order, whatever engine's types of text and list they have."""
    columns = " ".join(rows.column_names)
    texts = ["\x1f".join(map(str, row.values())) for row in rows.to_pylist()]
    return pa.table({"row": sorted(texts), "columns": [columns] * len(texts)})


def snapshots(data: DataDirectory, name: str = "events") -> list[int]:
    with table(data, name) as found:
        return [snapshot.snapshot_id for snapshot in found.snapshots()]
