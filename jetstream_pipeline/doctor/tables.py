"""Tables that are older than their window, or lacking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, warning
from jetstream_pipeline.doctor.words import count, some_windows
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.horizon import read_horizon
from jetstream_pipeline.tables.build import stale_tables
from jetstream_pipeline.tables.definitions import TABLES, Table
from jetstream_pipeline.window import Window


def examine_tables(case: Case) -> Iterator[Finding]:
    wanted = {stream.name: stream.tables for stream in case.streams}
    for name in case.names:
        yield from _stale(name, wanted.get(name) or _had(name, case), case)


def _had(name: str, case: Case) -> tuple[Table, ...]:
    """Those that a stream that is not declared has of any window."""
    had = case.data.lake.datasets(name)
    return tuple(table for table in TABLES if table.name in had)


def _stale(name: str, tables: tuple[Table, ...], case: Case) -> Iterator[Finding]:
    """The newest windows first, as many as there is time for; what limits have deleted is not lacking."""
    found: dict[Table, list[Window]] = defaultdict(list)
    looked_at = 0
    kept_from = read_horizon(case.data.lake.horizon_path(name)).derived
    for window in map(hour_of, case.data.lake.windows(name) if tables else ()):
        if case.is_late or (kept_from and window.start < kept_from):
            break
        looked_at += 1
        for table in stale_tables(tables, name, window, case.data.lake):
            found[table].append(window)
    for table, windows in found.items():
        text = f"{name}/{table.name} is stale or lacking for {count(len(windows), 'window')}"
        remedy = f"Dagster's sensor {name}_tables_for_new_windows derives it, or materialize {name}/{table.name} there"
        figures: dict[str, int | str] = {"stream": name, "table": table.name, "windows": len(windows)}
        yield warning(f"{text} ({some_windows(windows)}); {remedy}", **figures)
    if looked_at and not found:
        yield ok(f"{name}: {count(len(tables), 'table')} of the newest {count(looked_at, 'window')} are current")
