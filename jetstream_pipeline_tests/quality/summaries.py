"""What windows say of themselves, made up."""

import math
import random
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.storage.summary import SUMMARY_KEY, Proof, WindowState, WindowSummary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.windows import HOUR

LENGTH = HOUR.end - HOUR.start
SKEW = timedelta(seconds=30)


def shifted(hours: float, window: Window = HOUR) -> Window:
    return Window(window.start + timedelta(hours=hours), window.end + timedelta(hours=hours))


def summary(
    window: Window = HOUR,
    events: int = 0,
    *,
    first: datetime | None = None,
    last: datetime | None = None,
    collections: dict[str, int] | None = None,
    quarantined: int = 0,
    fingerprint: str = "f",
    state: WindowState = WindowState.COMPLETE,
) -> WindowSummary:
    """A window with so many events; the first and the last one at its edges unless said otherwise."""
    proof = Proof(
        cursor=0,
        start_shown_by="a test says so",
        end_shown_by="a test says so",
        position=None,
        connections=(),
        clamps=(),
        repeats=0,
        resumptions=0,
    )
    return WindowSummary(
        events=events,
        first_time=(first or window.start) if events else None,
        last_time=(last or window.end) if events else None,
        counts_by_kind={"commit": events},
        counts_by_collection=collections or {},
        stream="network",
        start=window.start,
        end=window.end,
        state=state,
        reason="a test says so",
        fingerprint=fingerprint,
        host="host",
        wire="v1",
        proof=proof,
        quarantined=quarantined,
        seconds=1.0,
        finished_at=window.end,
        version="0",
    )


def put(path: Path, said: WindowSummary) -> None:
    """A file that says so, without rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {SUMMARY_KEY: said.model_dump_json().encode()}
    pq.write_table(EVENT_SCHEMA.with_metadata(metadata).empty_table(), path)


def poisson(lots: random.Random, mean: float) -> int:
    """How many events a Poisson process has where `mean` are to be expected."""
    if mean > 500:
        return max(0, round(lots.gauss(mean, math.sqrt(mean))))
    number, time = -1, 0.0
    while time <= mean:
        time += lots.expovariate(1.0)
        number += 1
    return number


def of_a_poisson_process(lots: random.Random, window: Window, mean: float, clump: int = 1) -> WindowSummary:
    """A window over which events, or clumps of them, are scattered evenly."""
    number = poisson(lots, mean / clump)
    if not number:
        return summary(window)
    first, last = (1 - lots.random() ** (1 / number) for _ in range(2))
    return summary(window, number * clump, first=window.start + LENGTH * first, last=window.end - LENGTH * last)
