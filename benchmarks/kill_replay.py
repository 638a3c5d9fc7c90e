"""Whether a replay that is killed at any moment leaves half a window behind, or loses or repeats events.

A simulated host in a process of its own, and one replay of an hour after the other, each in a process of its own that
is killed by SIGKILL. After each kill the data directory is looked at; a replay that reaches its end is compared with
what the network enumerates, and the directory is emptied. The window's file, each table's file and the views must be
right or absent, always. Exit code 1 where anything was not.

    python benchmarks/kill_replay.py [--kills 200] [--rate 40] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jetstream_pipeline.settings import MAIN_COLLECTIONS
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.storage.lake import EVENTS, INCOMPLETE
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window

STREAM = "network"
COMPARED = {
    "seq": pa.int64(),
    "time_us": pa.int64(),
    "did": pa.string(),
    "rkey": pa.string(),
    "record": pa.string(),
    "payload": pa.string(),
}
LOOKBACK_HOURS = 36
LONGEST_SEC = 300.0
POLL_SEC = 0.002
SOON_SEC = 0.05
KILLS_PER_LINE = 20


class Phase(IntEnum):
    """How far a run has come, as its files show it."""

    STARTING = 0
    READING = 1
    MERGING = 2
    PLACED = 3
    TABLES = 4
    VIEWS = 5

    def __str__(self) -> str:
        return (
            "nothing durable yet",
            "reading, batches staged",
            "merging the batches",
            "window in its place",
            "deriving tables",
            "views written",
        )[self]


@dataclass(frozen=True)
class Blow:
    """When to kill a run: so many seconds after it began, or after it is seen in a phase."""

    seconds: float
    phase: Phase = Phase.STARTING


@dataclass(frozen=True)
class Run:
    code: int
    seconds: float
    phase: Phase
    said: str
    complained: str


@dataclass(frozen=True)
class Truth:
    """What the data directory holds when nobody has killed anything."""

    events: pa.Table
    tables: dict[Path, pa.Table]
    files: frozenset[Path]


@dataclass
class Tally:
    phases: Counter[Phase] = field(default_factory=Counter)
    series: int = 0
    resumed: int = 0
    compared: int = 0
    survived: int = 0
    differences: int = 0
    left_behind: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return self.phases.total()


class Bench:
    """One window of one host, replayed into one data directory again and again."""

    def __init__(self, address: str, window: Window, data: DataDirectory) -> None:
        self._data = data
        self._events_path = data.lake.events_path(STREAM, window)
        span = ["--start", window.start.isoformat(), "--end", window.end.isoformat()]
        self._command = [sys.executable, "-m", "jetstream_pipeline", "replay", *span, "-i", address, "--json"]
        self._variables = {name: value for name, value in os.environ.items() if not name.startswith("JETSTREAM_")}
        self._variables["JETSTREAM_DATA_DIR"] = str(data.root)

    def run(self, blow: Blow | None = None) -> Run:
        before, began = self._snapshot(), time.monotonic()
        with subprocess.Popen(
            self._command, env=self._variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                if blow:
                    while process.poll() is None and self._phase(before) < blow.phase:
                        time.sleep(POLL_SEC)
                process.wait(blow.seconds if blow else LONGEST_SEC)
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
            said, complained = process.communicate()
        return Run(process.returncode, time.monotonic() - began, self._phase(before), said, complained)

    @property
    def has_window(self) -> bool:
        return self._events_path.exists()

    def empty(self) -> None:
        shutil.rmtree(self._data.root, ignore_errors=True)

    def truth(self, events: pa.Table) -> Truth:
        """As the directory is now, but for the events: what they are is known from elsewhere."""
        files = frozenset(self._snapshot())
        tables = {path: pq.ParquetFile(self._data.root / path).read() for path in files if self._is_table(path)}
        return Truth(events, tables, files)

    def differences(self, truth: Truth, *, whole: bool) -> Iterator[str]:
        """Where the directory is neither as it should be nor, unless it is to be `whole`, without the file."""
        yield from _difference(self._events_path, truth.events, list(COMPARED), whole)
        for path, table in truth.tables.items():
            yield from _difference(self._data.root / path, table, None, whole)
        if whole or self._data.warehouse.exists():
            allowed = {truth.events.num_rows} if whole else {0, truth.events.num_rows}
            try:
                with duckdb.connect(self._data.warehouse, read_only=True) as connection:
                    ((count,),) = connection.execute("SELECT count(*) FROM events").fetchall()
                if count not in allowed:
                    yield f"the view of events shows {count:,} of {truth.events.num_rows:,}"
            except duckdb.Error as error:
                yield f"the views cannot be queried: {error}"

    def left_behind(self, truth: Truth) -> list[str]:
        """The folders of files that a run without kills does not leave."""
        return [str(Path(*path.parent.parts[:3])) for path in set(self._snapshot()) - truth.files]

    def _snapshot(self) -> dict[Path, tuple[int, int, int]]:
        """All files but locks, and what changes when one is replaced or written."""
        found = {}
        for folder, _, names in os.walk(self._data.root):
            for name in names:
                path = Path(folder, name)
                if path.suffix != ".lock":
                    with suppress(FileNotFoundError):
                        status = path.stat()
                        found[path.relative_to(self._data.root)] = status.st_ino, status.st_size, status.st_mtime_ns
        return found

    def _phase(self, before: dict[Path, tuple[int, int, int]]) -> Phase:
        after = self._snapshot()
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        staged = {path for path in changed if path.parts[0] == self._data.staging.name}
        has_batches = any(path.suffix == ".events" for path in after)
        if any(self._data.warehouse.name in path.name for path in changed):
            return Phase.VIEWS
        if any(self._is_table(path) for path in changed):
            return Phase.TABLES
        if self._events_path.relative_to(self._data.root) in changed:
            return Phase.PLACED
        if has_batches and any(path.suffix == ".parquet" and path in after for path in staged):
            return Phase.MERGING
        return Phase.READING if staged else Phase.STARTING

    def _is_table(self, path: Path) -> bool:
        """lake/<stream>/<table>/date=…/hour=…/<file>, half-written ones included."""
        parts = path.parts
        return len(parts) == 6 and parts[0] == self._data.lake.root.name and parts[2] not in (EVENTS, INCOMPLETE)


def main() -> None:
    arguments = parse_arguments()
    began = time.monotonic()
    # It ended two hours ago, so that it stays within the look-back and is long settled.
    window = Window.hour(datetime.now(UTC) - timedelta(hours=3))
    with serving(arguments) as address, tempfile.TemporaryDirectory() as folder:
        bench = Bench(address, window, DataDirectory(Path(folder, "data")))
        events = enumerated(Network(arguments.seed, arguments.rate), window)
        truth, seconds = undisturbed(bench, events)
        print(f"{window}: {events.num_rows:,} events; a run that nobody kills takes {seconds:.1f} s", flush=True)
        tally = Tally()
        generator = random.Random(arguments.seed)
        while tally.kills < arguments.kills:
            series(bench, truth, seconds, generator, arguments.kills, tally)
    report(tally, time.monotonic() - began)
    sys.exit(1 if tally.differences else 0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=float, default=40.0, help="the network's events per second")
    parser.add_argument("--seed", type=int, default=0, help="of the network, and of the moments to kill at")
    return parser.parse_args()


@contextmanager
def serving(arguments: argparse.Namespace) -> Iterator[str]:
    """The address of a simulated host."""
    options = ["--port", "0", "--rate", str(arguments.rate), "--seed", str(arguments.seed)]
    command = [sys.executable, "-m", "jetstream_pipeline", "simulate", *options]
    command += ["--lookback-hours", str(LOOKBACK_HOURS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            yield host.stdout.readline().split()[-1]
        finally:
            host.terminate()


def enumerated(network: Network, window: Window) -> pa.Table:
    """The network's events of the window that the default collections let through."""
    events = [
        (event.seq, event.time_us, event.did, event.rkey, event.record_json, event.payload_json)
        for event in network.events(window.start_us, window.end_us)
        if event.collection is None or event.collection in MAIN_COLLECTIONS
    ]
    columns = zip(*events, strict=True)
    return pa.table(dict(zip(COMPARED, columns, strict=True)), schema=pa.schema(COMPARED))


def undisturbed(bench: Bench, events: pa.Table) -> tuple[Truth, float]:
    """What a run makes that is not killed, and how long it takes once the host has its pages rendered."""
    for _ in range(2):
        bench.empty()
        run = bench.run()
        truth = bench.truth(events)
        wrong = list(bench.differences(truth, whole=True))
        if run.code or wrong:
            sys.exit(f"a run that nobody killed failed (exit code {run.code}): {'; '.join(wrong)}\n{run.complained}")
    return truth, run.seconds


def series(bench: Bench, truth: Truth, seconds: float, generator: random.Random, most_kills: int, tally: Tally) -> None:
    """Kill one run after the other until one reaches its end; the last one is left alone."""
    bench.empty()
    tally.series += 1
    while True:
        run = bench.run(drawn(generator, seconds) if tally.kills < most_kills else None)
        survived = run.code == 0
        wrong = list(bench.differences(truth, whole=survived))
        tally.compared += bench.has_window
        if run.code not in (0, -9):
            wrong.append(f"a run failed with exit code {run.code}:\n{run.complained}")
        for difference in wrong:
            print(f"series {tally.series}, {run.phase}: {difference}", flush=True)
        tally.differences += len(wrong)
        if run.code == -9:
            tally.phases[run.phase] += 1
            if tally.kills % KILLS_PER_LINE == 0:
                print(f"{tally.kills} kills, {tally.differences} differences", flush=True)
        if survived:
            summary = json.loads(run.said)
            tally.survived += 1
            tally.resumed += summary.get("proof", summary).get("resumptions", 0) >= 1
            tally.left_behind.update(bench.left_behind(truth))
        if run.code != -9 or wrong:
            return


def drawn(generator: random.Random, seconds: float) -> Blow:
    """Half of the blows fall at any time, a third late, a sixth just as one of the short phases begins."""
    match generator.choices(("any", "late", "phase"), weights=(3, 2, 1))[0]:
        case "any":
            return Blow(generator.uniform(0, 1.1 * seconds))
        case "late":
            return Blow(generator.uniform(0.85 * seconds, seconds))
        case _:
            return Blow(generator.uniform(0, SOON_SEC), generator.choice(list(Phase)[Phase.MERGING :]))


def report(tally: Tally, seconds: float) -> None:
    print(f"kills: {tally.kills} in {tally.series} series")
    for phase in Phase:
        print(f"  {phase}: {tally.phases[phase]}")
    print(f"runs that reached their end: {tally.survived}, of which went on with a dead run's batches: {tally.resumed}")
    print(f"windows compared, after kills too: {tally.compared}")
    print(f"differences: {tally.differences}")
    left = ", ".join(f"{number} in {folder}" for folder, number in sorted(tally.left_behind.items()))
    print(f"files of killed runs still there after the next run, which go once an hour old: {left or 'none'}")
    print(f"{seconds:,.0f} s")


def _difference(path: Path, expected: pa.Table, columns: list[str] | None, must_exist: bool) -> Iterator[str]:
    if not path.exists():
        if must_exist:
            yield f"{path.name} is missing"
        return
    try:
        found = pq.ParquetFile(path).read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        yield f"{path.name} cannot be read: {error}"
        return
    if not found.select(expected.column_names).cast(expected.schema).equals(expected):
        yield f"{path.name} has {found.num_rows:,} rows that are not the {expected.num_rows:,} expected ones"


if __name__ == "__main__":
    main()
