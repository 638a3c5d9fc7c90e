"""A lake of simulated hours at full size, for benchmarks that read it: made once, then found again.

An hour is decoded and written as a replay does it, without a host in between. What is there already is left as it is,
but for tables that are derived otherwise now.

    python benchmarks/lake.py --data FOLDER [--hours 24] [--rate 355] [--processes 2]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.storage.files import replacing
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import Counts, Proof, WindowState, WindowSummary
from jetstream_pipeline.storage.window_file import write_window
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window

STREAM = "network"
FULL_RATE = 355.0
_FIRST = datetime(2026, 7, 4, tzinfo=UTC)
_EVENTS_PER_BATCH = 16_384


@dataclass(frozen=True)
class Hour:
    """One simulated hour, and the data directory that it goes to."""

    root: Path
    window: Window
    rate: float


def windows(hours: int) -> list[Window]:
    """The hours of a day, from its first; beyond 24, of the days after it."""
    return [Window.hour(_FIRST + timedelta(hours=number)) for number in range(hours)]


def make(root: Path, hours: int, rate: float = FULL_RATE, processes: int = 2) -> DataDirectory:
    """The lake of so many hours below `root`, with all tables and views."""
    data = DataDirectory(root)
    wanted = [Hour(root, window, rate) for window in windows(hours)]
    began = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        for number, made in enumerate(workers.map(make_hour, wanted), 1):
            if made:
                print(
                    f"\r{number} of {hours} hours, {time.monotonic() - began:,.0f} s",
                    end="",
                    flush=True,
                    file=sys.stderr,
                )
    refresh(data)
    return data


def make_hour(hour: Hour) -> bool:
    """Whether anything was lacking."""
    lake = DataDirectory(hour.root).lake
    path = lake.events_path(STREAM, hour.window)
    lacking = not path.exists()
    if lacking:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            write_window(temporary, _batches(hour), lambda counts: window_summary(hour.window, counts))
    for table in TABLES:
        build_table(table, STREAM, hour.window, lake)
    return lacking


def _batches(hour: Hour) -> Iterator[pa.RecordBatch]:
    messages = (event.message for event in Network(0, hour.rate).events(hour.window.start_us, hour.window.end_us))
    while some := list(islice(messages, _EVENTS_PER_BATCH)):
        yield decode(some, "simulated").events


def window_summary(window: Window, counts: Counts) -> WindowSummary:
    """What such a window's file says of itself."""
    shown = "it was simulated"
    proof = Proof(
        cursor=window.start_us,
        start_shown_by=shown,
        end_shown_by=shown,
        position=window.end,
        connections=(),
        clamps=(),
        repeats=0,
        resumptions=0,
    )
    return WindowSummary(
        **counts.model_dump(),
        stream=STREAM,
        start=window.start,
        end=window.end,
        state=WindowState.COMPLETE,
        reason=shown,
        fingerprint="simulated",
        host="simulated",
        wire="v1",
        proof=proof,
        quarantined=0,
        seconds=0.0,
        finished_at=window.end,
        version="0",
    )


def parser(description: str, hours: int = 24) -> argparse.ArgumentParser:
    """Which lake a benchmark is to read."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--data", type=Path, required=True, help="the folder that holds the lake, or will")
    made.add_argument("--hours", type=int, default=hours)
    made.add_argument("--rate", type=float, default=FULL_RATE, help="events/s of the network")
    made.add_argument("--processes", type=int, default=2, help="how many make hours at a time")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__ or "").parse_args(arguments)
    data = make(options.data, options.hours, options.rate, options.processes)
    files = list(data.lake.windows(STREAM))
    print(f"\n{len(files)} hours, {sum(path.stat().st_size for path in files) / 1e6:,.0f} MB of events in {data.root}")


if __name__ == "__main__":
    main()
