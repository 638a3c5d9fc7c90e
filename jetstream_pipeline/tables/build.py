"""Deriving a window's typed table from its events' file, by DuckDB. What a table holds is `definitions`'."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.sql import glob_safe
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import exists, replacing, size, version
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.places import AnyPath, shown
from jetstream_pipeline.storage.querying import connected
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.tables.definitions import TABLES, Table
from jetstream_pipeline.tables.file import ROWS_AT_ONCE, write_rows, written_as
from jetstream_pipeline.window import Window

DERIVED_FROM = "jetstream_derived_from"
"""The Parquet key-value entry that says what a table's file follows from."""


@dataclass(frozen=True)
class TableSummary:
    """What was written: the file, its rows and bytes, and the seconds that it took."""

    path: AnyPath
    rows: int
    bytes: int
    seconds: float


def build_table(table: Table, stream: str, window: Window, lake: Lake) -> TableSummary:
    """Derive `table`'s file for one window; what stood there is replaced in one step, unless it is the same already.

    InvalidInput where the lake has no whole window to derive it from, StorageError where it cannot be read or written.
    """
    began = time.monotonic()
    events = lake.events_path(stream, window)
    if not exists(events):
        raise InvalidInput(f"the lake holds no whole window {stream} {window}; replay it first")
    target = lake.table_path(stream, table.name, window)
    if not _is_current(table, events, target):
        with replacing(target) as temporary:
            derived_from = None
            while derived_from != (derived_from := version(events)):
                _write(table, events, temporary)
    with reading(target) as file:
        rows = file.metadata.num_rows
    return TableSummary(target, rows, size(target), time.monotonic() - began)


def build_stale(stream: str, window: Window, lake: Lake) -> list[TableSummary]:
    """Derive anew those of a window's tables that are not of its present events, or lacking beside others.

    Nothing where the lake has no whole window, or nobody wanted tables of it; no table that the stream has of no
    window. StorageError as `build_table`.
    """
    events = lake.events_path(stream, window)
    targets = {table: lake.table_path(stream, table.name, window) for table in TABLES}
    standing = {table.name for table, target in targets.items() if exists(target)}
    if not standing or not exists(events):
        return []
    wanted = standing.union(lake.datasets(stream))
    stale = stale_tables((table for table in TABLES if table.name in wanted), stream, window, lake)
    return [build_table(table, stream, window, lake) for table in stale]


def stale_tables(tables: Iterable[Table], stream: str, window: Window, lake: Lake) -> list[Table]:
    """Those of the tables that are not of a whole window's present events, or lacking. Nothing is derived."""
    events = lake.events_path(stream, window)
    return [table for table in tables if not _is_current(table, events, lake.table_path(stream, table.name, window))]


def derived_from(target: AnyPath) -> str:
    """What a table's file was derived from; empty where it does not say. StorageError where it cannot be read."""
    with reading(target) as file:
        return (file.metadata.metadata or {}).get(DERIVED_FROM.encode(), b"").decode()


def _is_current(table: Table, events: AnyPath, target: AnyPath) -> bool:
    """Whether a table's file was derived from these events, by this query, and written like this."""
    try:
        said = derived_from(target)
    except StorageError:
        return False
    return said != "" and said == _derivation(table, events)


def _derivation(table: Table, events: AnyPath) -> str:
    """What a table follows from: the identity of its window's rows, its query, and how it is written. Empty where that
    is not known."""
    content = read_summary(events).content
    said = f"{content}\n{table.query}\n{written_as(table)}"
    return content and hashlib.sha256(said.encode()).hexdigest()[: len(content)]


def _write(table: Table, events: AnyPath, target: Path) -> None:
    try:
        with connected(events) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            rows = connection.sql(table.query, params=[glob_safe(shown(events))]).to_arrow_reader(ROWS_AT_ONCE)
            write_rows(table, rows, target, {DERIVED_FROM: _derivation(table, events)})
    except (duckdb.Error, pa.ArrowException) as error:
        raise StorageError(f"cannot derive {table.name} from {events}: {str(error).splitlines()[0]}") from error
