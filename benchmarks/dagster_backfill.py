"""What Dagster costs for each window of a backfill, beyond the replay itself, and whether anybody is locked out by it.

Two simulated hosts, a stream of few events, and three times the same windows: replayed by a few processes without
Dagster, as a backfill with a run for each window, and as one with a run for each day. Each time a reader queries the
warehouse all the while. All windows must become complete, no query and no run may fail. The overhead is the difference
in time, from the first run's start on, divided by the windows. Exit code 1 where it is above its bound, or anything
failed.

    python benchmarks/dagster_backfill.py [--windows 168] [--rate 1] [--concurrent 8]
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import dagster as dg
import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from jetstream_pipeline.orchestration.events import pool
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.deployment import EVENTS, Deployment

BOUNDS_SEC = {"a run for each window": 2.5, "a run for each day": 0.3}
LONGEST_SEC = 1800.0
_QUESTIONS = (
    "SELECT count(*), min(time), max(time) FROM events",
    "SELECT state, count(*), sum(events) FROM windows GROUP BY state",
    "SELECT hour, count(DISTINCT did) FROM events WHERE kind = 'commit' GROUP BY hour",
)


@dataclass
class Reader:
    """Somebody who opens the warehouse, asks, and closes it, all the time."""

    data: DataDirectory
    queries: int = 0
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        while not self.stop.wait(0.2):
            if not self.data.warehouse.exists():
                continue
            try:
                with duckdb.connect(self.data.warehouse, read_only=True) as connection:
                    for question in _QUESTIONS:
                        connection.execute(question).fetchall()
                        self.queries += 1
            except duckdb.Error as error:
                self.failures.append(str(error).splitlines()[0])


@contextmanager
def reading(data: DataDirectory) -> Iterator[Reader]:
    reader = Reader(data)
    thread = threading.Thread(target=reader.read)
    thread.start()
    try:
        yield reader
    finally:
        reader.stop.set()
        thread.join()


@contextmanager
def host(rate: float, hours: int) -> Iterator[str]:
    """A simulated host in a process of its own; its address."""
    program = Path(sys.executable).parent / "jetstream-pipeline"
    command = [program, "simulate", "--port", "0", "--rate", str(rate), "--lookback-hours", str(hours)]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield next(word.strip(",.") for word in process.stdout.readline().split() if "ws://" in word)
        finally:
            process.terminate()


def replay_one(stream: Stream, window: Window) -> None:
    summary = stream.replay(window)
    refresh(stream.data)
    assert summary.state is WindowState.COMPLETE, summary.reason


def without_dagster(stream: Stream, windows: Sequence[Window], processes: int) -> float:
    """Seconds that the windows take in processes that are started already."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        list(workers.map(partial(replay_one, stream), windows[:processes]))
        with reading(stream.data):
            began = time.monotonic()
            list(workers.map(partial(replay_one, stream), windows))
            return time.monotonic() - began


def backfilled(deployment: Deployment, windows: Sequence[Window]) -> tuple[float, float, Reader]:
    """Seconds from the request to the first run's start, from there to the last run's end, and who read meanwhile."""
    with deployment.instance() as instance:
        instance.event_log_storage.set_concurrency_slots(pool(deployment.stream()), deployment.concurrent)
    asked = time.time()
    deployment.backfill(windows)
    with reading(deployment.data) as reader, deployment.daemon():
        deployment.wait(lambda: is_done(deployment, windows), LONGEST_SEC, poll=5.0)
    with deployment.instance() as instance:
        records = instance.get_run_records()
    starts = [record.start_time for record in records if record.start_time]
    ends = [record.end_time for record in records if record.end_time]
    return min(starts) - asked, max(ends) - min(starts), reader


def is_done(deployment: Deployment, windows: Sequence[Window]) -> bool:
    with deployment.instance() as instance:
        failed = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        done = instance.get_materialized_partitions(EVENTS)
        assert not failed, f"{failed} runs failed"
        print(f"\r{len(done)} windows", end="", flush=True)
        return done >= {window.key for window in windows} and all(run.is_finished for run in instance.get_runs())


def check(deployment: Deployment, windows: Sequence[Window], reader: Reader) -> list[str]:
    """What is not as it should be."""
    lake = deployment.data.lake
    states = [read_summary(lake.events_path("network", window)).state for window in windows]
    wrong = [f"{sum(state is not WindowState.COMPLETE for state in states)} windows are not complete"]
    wrong = wrong if any(state is not WindowState.COMPLETE for state in states) else []
    if len(deployment.materialized()) != len(windows):
        wrong.append(f"{len(deployment.materialized())} materializations")
    if reader.failures:
        wrong.append(f"{len(reader.failures)} of {reader.queries} queries failed: {reader.failures[0]}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=168)
    parser.add_argument("--rate", type=float, default=1.0, help="events/s of the network")
    parser.add_argument("--concurrent", type=int, default=8, help="runs, or processes, at a time")
    options = parser.parse_args()
    # However it is ended, its servers end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    last = datetime.now(UTC) - timedelta(hours=3)
    windows = [Window.hour(last - timedelta(hours=number)) for number in reversed(range(options.windows))]
    hours = options.windows + 12
    wrong = []
    with tempfile.TemporaryDirectory() as folder, host(options.rate, hours) as one, host(options.rate, hours) as two:
        variables = {
            "JETSTREAM_HOSTS": f"{one},{two}",
            "JETSTREAM_FIRST_HOUR": windows[0].key,
            "JETSTREAM_LOOK_BACK_HOURS": "0",
            # The schedule's minute is one that has just gone by.
            "JETSTREAM_SETTLE_MINUTES": str((datetime.now(UTC).minute - 1) % 60),
        }
        alone = Deployment(Path(folder, "alone"), variables, {"tables": [], "report": False})
        replays = without_dagster(alone.stream(), windows, options.concurrent)
        each = replays / len(windows)
        print(f"{len(windows)} windows of {options.rate * 3600:.0f} events, {options.concurrent} at a time, two hosts")
        print(f"without Dagster      {replays:6.1f} s  {each:5.2f} s a window")
        for number, (name, bound) in enumerate(BOUNDS_SEC.items()):
            declared = {"tables": [], "report": False} | ({"windows_per_run": 24} if number else {})
            deployment = Deployment(Path(folder, str(number)), variables, declared, options.concurrent)
            latency, seconds, reader = backfilled(deployment, windows)
            overhead = (seconds - replays) / len(windows)
            found = check(deployment, windows, reader)
            wrong += found if overhead <= bound else [*found, f"{name}: {overhead:.2f} s a window, above {bound} s"]
            print(
                f"\r{name:<20} {seconds:6.1f} s  {seconds / len(windows):5.2f} s a window, overhead {overhead:.2f} s "
                f"(bound {bound} s); the first run began {latency:.0f} s after the request; "
                f"{reader.queries} queries, {len(reader.failures)} failed; {len(deployment.runs())} runs"
            )
    for text in wrong:
        print(f"WRONG: {text}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
