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
from jetstream_pipeline.storage.files import replacing, version
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.tables.definitions import TABLES, Table
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
        derived_from = None
        while derived_from != (derived_from := version(events)):
            _write(table, events, temporary)
    rows = pq.read_metadata(target).num_rows
    return TableSummary(target, rows, target.stat().st_size, time.monotonic() - began)


def build_stale(stream: str, window: Window, lake: Lake) -> list[TableSummary]:
    """Derive anew those of a window's tables that are older than its events, or lacking beside others.

    Nothing where the lake has no whole window, or nobody wanted tables of it. StorageError as `build_table`.
    """
    events = lake.events_path(stream, window)
    standing = {table.name: _since(lake.table_path(stream, table.name, window)) for table in TABLES}
    if not events.exists() or not any(standing.values()):
        return []
    # A file that is moved into place keeps the time at which it was written, but not that of its last change.
    in_place = events.stat().st_ctime_ns
    stale = [table for table in TABLES if (standing[table.name] or 0) < in_place]
    return [build_table(table, stream, window, lake) for table in stale]


def _since(table: Path) -> int | None:
    """When a table was derived; None where there is none."""
    try:
        return table.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _write(table: Table, events: Path, target: Path) -> None:
    copy = f"COPY ({table.query}) TO {literal(target)} (FORMAT parquet, COMPRESSION zstd)"
    try:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(copy, [glob_safe(events)])
    except duckdb.Error as error:
        raise StorageError(f"cannot derive {table.name} from {events}: {str(error).splitlines()[0]}") from error
