"""Deriving a window's typed table from its events' file, by DuckDB. What a table holds is `definitions`'."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.sql import glob_safe, literal
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import replacing
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.tables.definitions import Table
from jetstream_pipeline.window import Window


@dataclass(frozen=True)
class TableSummary:
    """What was written: the file, its rows and bytes, and the seconds that it took."""

    path: Path
    rows: int
    bytes: int
    seconds: float


def build_table(table: Table, stream: str, window: Window, lake: Lake) -> TableSummary:
    """Derive `table`'s file for one window; what stood there is replaced in one step.

    InvalidInput where the lake has no whole window to derive it from, StorageError where it cannot be read or written.
    """
    began = time.monotonic()
    events = lake.events_path(stream, window)
    if not events.exists():
        raise InvalidInput(f"the lake holds no whole window {stream} {window}; replay it first")
    target = lake.table_path(stream, table.name, window)
    with replacing(target) as temporary:
        try:
            _write(table, events, temporary)
        except duckdb.Error as error:
            raise StorageError(f"cannot derive {table.name} from {events}: {first_line(error)}") from error
    rows = pq.read_metadata(target).num_rows
    return TableSummary(target, rows, target.stat().st_size, time.monotonic() - began)


def _write(table: Table, events: Path, target: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"COPY ({table.query}) TO {literal(target)} (FORMAT parquet, COMPRESSION zstd)", [glob_safe(events)]
        )


def first_line(error: Exception) -> str:
    """DuckDB's errors go on with the statement's text; the first line says what is wrong."""
    return str(error).partition("\n")[0]
