"""What the typed tables of an hour cost: to build, and on disk, each by itself and all together.

Each pass derives every table of one full hour, in a process of its own, and beside each a bare copy: DuckDB copies the
same events to Parquet and looks into no record. Figures are medians of the passes; a rate is the window's events, or
the bytes of its events' file, by the seconds. The lake is made where it is not there yet. Exit code 1 where the tables
together take more than their share of the events' bytes.

    python benchmarks/tables.py --data FOLDER [--hours 1] [--passes 5]
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.lake import STREAM, make, parser, windows
from jetstream_pipeline.sql import glob_safe, literal
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window

LARGEST_SHARE = 0.4
_TABLES = {table.name: table for table in TABLES}


@dataclass(frozen=True)
class Cost:
    """What one piece of work took: by the clock, of processors, and of memory at its most, with what Python takes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Line:
    """Medians of a table's building, and of the bare copy beside it."""

    name: str
    build: Cost
    copy: Cost
    bytes: int

    def text(self, events: int, size: int) -> str:
        build = self.build
        return (
            f"{self.name:<12} {events / build.seconds:11,.0f} {size / build.seconds / 1e6:7,.0f} "
            f"{build.cpu_seconds / events * 1e6:9.2f} {build.peak_bytes / 1e6:8,.0f} {self.bytes / events:9.2f} "
            f"{build.cpu_seconds / self.copy.cpu_seconds:8.2f} {build.seconds / self.copy.seconds:8.2f}"
        )


def build(root: Path, table: str, window: Window) -> Cost:
    """Derive a table's file, whether or not it is there already."""
    lake = DataDirectory(root).lake
    lake.table_path(STREAM, table, window).unlink(missing_ok=True)
    return _cost(lambda: build_table(_TABLES[table], STREAM, window, lake))


def copy(root: Path, table: str, window: Window) -> Cost:
    """Copy the events that a table is of."""
    events = glob_safe(DataDirectory(root).lake.events_path(STREAM, window))
    rows = f"SELECT * FROM read_parquet({literal(events)}) WHERE {_TABLES[table].condition}"  # noqa: S608 - our names
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        target = Path(folder, "copy.parquet")
        return _cost(
            lambda: connection.execute(f"COPY ({rows}) TO {literal(target)} (FORMAT parquet, COMPRESSION zstd)")
        )


def _cost(work: Callable[[], object]) -> Cost:
    began, before = time.perf_counter(), _cpu_seconds()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Cost(time.perf_counter() - began, _cpu_seconds() - before, peak)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(data: DataDirectory, window: Window, passes: int) -> list[Line]:
    costs: dict[tuple[str, str], list[Cost]] = {}
    for _ in range(passes):
        for table in TABLES:
            for work in (build, copy):
                cost = _alone(partial(work, data.root, table.name, window))
                costs.setdefault((table.name, work.__name__), []).append(cost)
    return [
        Line(
            table.name,
            _median(costs[table.name, "build"]),
            _median(costs[table.name, "copy"]),
            data.lake.table_path(STREAM, table.name, window).stat().st_size,
        )
        for table in TABLES
    ]


def _alone(work: Callable[[], Cost]) -> Cost:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        return worker.submit(work).result()


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.cpu_seconds for cost in costs),
        round(statistics.median(cost.peak_bytes for cost in costs)),
    )


def together(lines: Sequence[Line]) -> Line:
    """All tables, one after the other."""
    builds, copies = [line.build for line in lines], [line.copy for line in lines]
    return Line("together", _sum(builds), _sum(copies), sum(line.bytes for line in lines))


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(
        sum(cost.seconds for cost in costs),
        sum(cost.cpu_seconds for cost in costs),
        max(cost.peak_bytes for cost in costs),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    options_parser = parser(__doc__ or "", hours=1)
    options_parser.add_argument("--passes", type=int, default=5)
    options = options_parser.parse_args(arguments)
    data = make(options.data, options.hours, options.rate, options.processes)
    window = windows(options.hours)[-1]
    path = data.lake.events_path(STREAM, window)
    events, size = read_summary(path).events, path.stat().st_size
    print(f"{window}: {events:,} events, {size / events:.1f} bytes each; medians of {options.passes}")
    print(f"{'':<12} {'':>11} {'':>7} {'CPU':>9} {'peak':>8} {'bytes per':>9} {'to a bare copy':>17}")
    print(f"{'table':<12} {'events/s':>11} {'MB/s':>7} {'us/event':>9} {'MB':>8} {'event':>9} {'CPU':>8} {'clock':>8}")
    lines = measure(data, window, options.passes)
    for line in (*lines, together(lines)):
        print(line.text(events, size))
    share = sum(line.bytes for line in lines) / size
    print(f"the tables add {share:.1%} to the events' bytes (at most {LARGEST_SHARE:.0%})")
    sys.exit(0 if share <= LARGEST_SHARE else 1)


if __name__ == "__main__":
    main()
