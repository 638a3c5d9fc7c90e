"""A replay that is killed at any moment leaves a whole window or none, and the next run goes on where it stopped."""

import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator, Witness, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline_tests.replay.commands import PROGRAM, ended, run, said, signalled, started, stored
from jetstream_pipeline_tests.windows import latest

NETWORK = Network(seed=3, rate=4)
WINDOW = latest(20)
MINUTE_US = 60_000_000

PARTS, MERGED = "staging/network/*/*.events", "staging/network/*/events.parquet"
PLACED, TABLES = "lake/network/events/*/*/*.parquet", "lake/network/[!es]*/*/*/*.parquet"
VIEWS = ".jetstream.duckdb*"


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    with running(Simulator(NETWORK)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def late_host() -> Iterator[Simulator]:
    """Sees everything later and in another order, and counts it otherwise."""
    witness = Witness(offset=timedelta(seconds=12), jitter=timedelta(seconds=1), seq_offset=7_000_000, seed=1)
    with running(Simulator(NETWORK, witness=witness)) as simulator:
        yield simulator


@dataclass(frozen=True)
class Truth:
    """What there is when nobody has killed anything."""

    rows: list[tuple[object, ...]]
    tables: dict[Path, pa.Table]


@pytest.fixture(scope="module")
def truth(host: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder, host, WINDOW).returncode == 0
    tables = {path.relative_to(folder): pq.ParquetFile(path).read() for path in folder.glob(TABLES)}
    assert len(tables) == 8
    return Truth(said(NETWORK.events(WINDOW.start_us, WINDOW.end_us)), tables)


def check(folder: Path, truth: Truth, *, whole: bool = False) -> None:
    """Every file is right or, unless all of it is to be `whole`, absent; and nothing else is in sight."""
    if whole or list(folder.glob(PLACED)):
        assert stored(folder, WINDOW) == truth.rows
    for path, table in truth.tables.items():
        if whole or (folder / path).exists():
            assert pq.ParquetFile(folder / path).read().equals(table), path
    assert {path.relative_to(folder) for path in folder.glob(TABLES)} <= truth.tables.keys()
    warehouse = DataDirectory(folder).warehouse
    if whole or warehouse.exists():
        with duckdb.connect(warehouse, read_only=True) as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM events").fetchall()
        assert count == len(truth.rows)


def kill(folder: Path, host: Simulator, pattern: str, number: int = 1, seconds: float = 0.0) -> bool:
    """Kill a run so many seconds after it has made so many new files that match; whether it lived until then."""
    before = set(versions(folder.glob(pattern)))
    process = started(folder, host, WINDOW)
    while process.poll() is None and len(set(versions(folder.glob(pattern))) - before) < number:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    result = ended(process)
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode != 0


def dies_midway(folder: Path, host: Simulator) -> None:
    assert run(folder, host, WINDOW, first=signalled(8)).returncode == -signal.SIGKILL


def versions(paths: Iterable[Path]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        yield status.st_ino, status.st_mtime_ns


def completed(folder: Path, host: Simulator) -> WindowSummary:
    result = run(folder, host, WINDOW)
    assert (result.returncode, result.stderr) == (0, "")
    return WindowSummary.model_validate_json(result.stdout)


MOMENTS: Sequence[tuple[str, int, float]] = [
    ("*", 0, 0.3),
    ("staging/network/*.lock", 2, 0),
    (PARTS, 1, 0),
    ("staging/network/*/*.tmp", 1, 0),
    (PARTS, 5, 0.02),
    (PARTS, 12, 0.1),
    (MERGED, 1, 0),
    (MERGED, 1, 0.05),
    (PLACED, 1, 0),
    (PLACED, 1, 0.2),
    (TABLES, 4, 0),
    (VIEWS, 1, 0),
]


def test_a_run_killed_at_one_moment_after_the_other(host: Simulator, truth: Truth, tmp_path: Path) -> None:
    killed = 0
    for moment in MOMENTS:
        killed += killed_at(moment, tmp_path, host, truth)
    completed(tmp_path, host)
    check(tmp_path, truth, whole=True)
    assert killed >= len(MOMENTS) - 2


def killed_at(moment: tuple[str, int, float], folder: Path, host: Simulator, truth: Truth) -> bool:
    """A run that escapes, being too quick or going on with too much, is followed by one that begins anew."""
    pattern, number, seconds = moment
    for attempt in range(6):
        killed = kill(folder, host, pattern, number, seconds / 2**attempt)
        check(folder, truth, whole=not killed)
        if killed:
            return True
        DataDirectory(folder).warehouse.unlink()
    return False


def test_what_is_durable_is_not_read_again(host: Simulator, truth: Truth, tmp_path: Path) -> None:
    for _ in range(2):
        dies_midway(tmp_path, host)
    summary = completed(tmp_path, host)
    check(tmp_path, truth, whole=True)
    assert summary.proof.resumptions == 2
    assert 0 < summary.proof.repeats < len(truth.rows) / 10
    assert not list(tmp_path.glob("staging/network/*/")), "what was staged is of no use any more"


@pytest.mark.parametrize("late_first", [False, True])
def test_a_run_that_goes_on_with_another_host_has_each_event_once(
    host: Simulator, late_host: Simulator, late_first: bool, tmp_path: Path
) -> None:
    first, second = (late_host, host) if late_first else (host, late_host)
    dies_midway(tmp_path, first)
    summary = completed(tmp_path, second)
    assert summary.state is WindowState.COMPLETE
    assert summary.host == ",".join(one.address.removeprefix("ws://") for one in (first, second))
    assert summary.proof.resumptions == 1
    # It begins where the first host's clock says so, and ends where the second one's does.
    begun = {identity(event) for event in first.events(WINDOW.start_us, WINDOW.end_us + MINUTE_US)}
    not_over = {identity(event) for event in second.events(WINDOW.start_us - MINUTE_US, WINDOW.end_us)}
    network = map(identity, NETWORK.events(WINDOW.start_us - MINUTE_US, WINDOW.end_us + MINUTE_US))
    expected = [one for one in network if one in begun and one in not_over]
    found = [row[2:] for row in stored(tmp_path, WINDOW)]
    assert len(found) == len(expected)
    assert by_repository(found) == by_repository(expected)


def identity(event: SimulatedEvent) -> tuple[object, ...]:
    """All but when its host saw it, and as which."""
    return said([event])[0][2:]


def by_repository(events: Iterable[tuple[object, ...]]) -> dict[object, list[tuple[object, ...]]]:
    repositories = defaultdict(list)
    for event in events:
        repositories[event[0]].append(event)
    return repositories


def test_of_two_at_the_same_window_one_is_told_and_the_other_completes(
    host: Simulator, truth: Truth, tmp_path: Path
) -> None:
    first = started(tmp_path, host, WINDOW, first=signalled(1, signal.SIGSTOP))
    _, status = os.waitpid(first.pid, os.WUNTRACED)
    try:
        assert os.WIFSTOPPED(status)
        second = run(tmp_path, host, WINDOW)
    finally:
        first.send_signal(signal.SIGCONT)
    result = ended(first)
    assert second.returncode == 2
    assert second.stderr == f"{PROGRAM}: another run is at network {WINDOW}; wait for it to end\n"
    assert second.stdout == ""
    assert result.returncode == 0
    assert json.loads(result.stdout)["proof"]["resumptions"] == 0
    check(tmp_path, truth, whole=True)
