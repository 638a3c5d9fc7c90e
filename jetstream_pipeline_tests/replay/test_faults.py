"""What the machine can do to a replay: one line says so, the lake is as it was, and the next run completes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline_tests.disks import enlarge, flip_middle, read_only, small
from jetstream_pipeline_tests.replay.commands import PROGRAM, files, run, said, signalled, stored
from jetstream_pipeline_tests.windows import latest

NETWORK = Network(seed=4, rate=2)
WINDOW = latest(20)
STAGED = f"staging/network/{WINDOW.key.replace(':', '')}"

Rows = list[tuple[object, ...]]
Files = dict[Path, bytes]
"""Each file's path within the data directory, and what is in it."""


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    with running(Simulator(NETWORK)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def truth() -> Rows:
    return said(NETWORK.events(WINDOW.start_us, WINDOW.end_us))


@pytest.fixture(scope="module")
def earlier(host: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The data directory that a run before the fault has made."""
    folder = tmp_path_factory.mktemp("earlier")
    assert run(folder, host, WINDOW).returncode == 0
    return {path.relative_to(folder): content for path, content in files(folder).items()}


def put(content: Files, folder: Path) -> None:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def fails(folder: Path, host: Simulator, first: str = "") -> str:
    """Run into the fault: what is told of it, when the lake and the views are as they were."""
    before = visible(folder)
    result = run(folder, host, WINDOW, "--no-tables", first=first)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{PROGRAM}: ")
    assert visible(folder) == before
    return line.removeprefix(f"{PROGRAM}: ")


def visible(folder: Path) -> Files:
    """What somebody who queries can see."""
    return {
        path: content
        for path, content in files(folder).items()
        if path.suffix in (".parquet", ".duckdb") and "staging" not in path.parts
    }


def completes(folder: Path, host: Simulator, truth: Rows, first: str = "") -> WindowSummary:
    """Run to the end: exactly the network's events, in the file and in the views."""
    result = run(folder, host, WINDOW, "--no-tables", first=first)
    assert (result.returncode, result.stderr) == (0, "")
    assert stored(folder, WINDOW) == truth
    with duckdb.connect(DataDirectory(folder).warehouse, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(len(truth),)]
    summary = WindowSummary.model_validate_json(result.stdout)
    assert summary.quarantined == 0
    return summary


@pytest.mark.parametrize(("share", "where"), [(0.0, ""), (1.2, ""), (6.5, "/events.parquet")])
def test_a_full_disk(share: float, where: str, host: Simulator, truth: Rows, earlier: Files, tmp_path: Path) -> None:
    """Before anything, among the durable parts (6 times as large as what they become), and when they become one
    file."""
    size = sum(-(-len(content) // 4096) * 4 for content in earlier.values())
    with small(tmp_path, size + 16 + int(share * events_size(earlier)) // 1024):
        put(earlier, tmp_path)
        line = fails(tmp_path, host)
        assert "No space left on device; check that it is writable and has room" in line
        assert f"{STAGED}{where}: " in line
        enlarge(tmp_path, 64_000)
        summary = completes(tmp_path, host, truth)
    assert summary.proof.resumptions == (share > 0)


def events_size(written: Files) -> int:
    return next(len(content) for path, content in written.items() if path.name == "events.parquet")


@pytest.mark.parametrize(("share", "where"), [(0.05, ""), (0.75, "/events.parquet")])
def test_files_that_may_not_grow(
    share: float, where: str, host: Simulator, truth: Rows, earlier: Files, tmp_path: Path
) -> None:
    """A full disk's stand-in where none can be mounted."""
    put(earlier, tmp_path)
    first = limited(int(share * events_size(earlier)))
    line = fails(tmp_path, host, first=first)
    assert "File too large; check that it is writable and has room" in line
    assert f"{STAGED}{where}: " in line
    completes(tmp_path, host, truth)


def limited(size: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


def test_no_room_for_a_table(host: Simulator, earlier: Files, tmp_path: Path) -> None:
    put(earlier, tmp_path)
    for table in (path for path in (tmp_path / "lake").rglob("*.parquet") if "events" not in path.parts):
        # As if derived from something else: one that is as it should be is not written again.
        pq.write_table(pq.ParquetFile(table).read().replace_schema_metadata(), table)
    tables = {path: content for path, content in visible(tmp_path).items() if "events" not in path.parts}
    result = run(tmp_path, host, WINDOW, first=limited_within("derive_tables", 1_000))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"{PROGRAM}: cannot write " in result.stderr
    assert "File too large" in result.stderr
    assert {path: content for path, content in visible(tmp_path).items() if "events" not in path.parts} == tables


@pytest.mark.parametrize("size", [1_000, 200_000])
def test_no_room_for_the_views(size: int, host: Simulator, truth: Rows, earlier: Files, tmp_path: Path) -> None:
    put(earlier, tmp_path)
    warehouse = DataDirectory(tmp_path).warehouse
    warehouse.unlink()
    with duckdb.connect(warehouse) as connection:
        connection.execute("CREATE VIEW events AS SELECT 'as an older version made it'")
    before = warehouse.read_bytes()
    result = run(tmp_path, host, WINDOW, "--no-tables", first=limited_within("refresh", size))
    assert result.returncode == 2
    assert result.stderr.startswith(f"{PROGRAM}: cannot make the views to query: ")
    assert len(result.stderr.splitlines()) == 1
    assert warehouse.read_bytes() == before
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".jetstream")] == []
    completes(tmp_path, host, truth)


def limited_within(name: str, size: int) -> str:
    """From the moment on at which the command calls this function."""
    return f"""
called = replay.{name}
def limiting(*arguments):
    {limited(size)}
    return called(*arguments)
replay.{name} = limiting
"""


def test_a_read_only_data_directory(host: Simulator, truth: Rows, earlier: Files, tmp_path: Path) -> None:
    put(earlier, tmp_path)
    with read_only(tmp_path):
        assert "check that it is writable and has room" in fails(tmp_path, host)
        assert "check that it is writable and has room" in fails(tmp_path / "new", host)
    completes(tmp_path, host, truth)


@pytest.mark.parametrize(("handles", "told"), [(2, "cannot read "), (5, "cannot reach 127.0.0.1:"), (7, "")])
def test_no_file_handles_left(
    handles: int,
    told: str,
    host: Simulator,
    truth: Rows,
    earlier: Files,
    tmp_path: Path,
) -> None:
    put(earlier, tmp_path)
    first = f"""
import os, resource
limit = len(os.listdir("/dev/fd")) - 1 + {handles}
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
"""
    line = fails(tmp_path, host, first=first)
    assert line.startswith(told)
    assert "Too many open files" in line
    completes(tmp_path, host, truth)


def test_an_answer_that_cannot_be_written(host: Simulator, truth: Rows, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = run(tmp_path, host, WINDOW, stdout=full)
    assert result.returncode == 2
    assert result.stderr.startswith(f"{PROGRAM}: ")
    assert "No space left on device" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    completes(tmp_path, host, truth)


@pytest.mark.parametrize("damaged", [{3}, {1, 2, 3, 4, 5}])
def test_staged_batches_are_damaged(
    damaged: set[int],
    host: Simulator,
    truth: Rows,
    earlier: Files,
    tmp_path: Path,
) -> None:
    put(earlier, tmp_path)
    assert run(tmp_path, host, WINDOW, first=signalled(5)).returncode == -9
    parts = sorted(tmp_path.glob("staging/network/*/*.events"))
    assert len(parts) == 5
    for number in damaged:
        flip_middle(parts[number - 1])
    assert completes(tmp_path, host, truth).proof.resumptions == (1 not in damaged)


_CLOCK = """
import datetime, time
late = [{at_start}]
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() - late[0]
time.time_ns = lambda: nanoseconds() - late[0] * 10**9
class Late(datetime.datetime):
    @classmethod
    def now(cls, zone=None):
        return datetime.datetime.fromtimestamp(time.time(), zone)
for name, module in list(sys.modules.items()):
    if name.startswith("jetstream_pipeline.") and getattr(module, "datetime", None) is Late.__base__:
        module.datetime = Late
durable = staging.StagedWindow.checkpoint
def setting_back(self, state):
    durable(self, state)
    self.checkpoints = getattr(self, "checkpoints", 0) + 1
    if self.checkpoints == 3:
        late[0] += {later}
staging.StagedWindow.checkpoint = setting_back
"""


@pytest.mark.parametrize(("at_start", "later"), [(3_600, 0), (0, 3_600), (0, 86_400)])
def test_a_clock_that_is_set_back_harms_nothing(
    at_start: int,
    later: int,
    host: Simulator,
    truth: Rows,
    earlier: Files,
    tmp_path: Path,
) -> None:
    put(earlier, tmp_path)
    summary = completes(tmp_path, host, truth, first=_CLOCK.format(at_start=at_start, later=later))
    behind = datetime.now(UTC) - summary.finished_at
    assert abs(behind - timedelta(seconds=at_start + later)) < timedelta(minutes=5)


def test_a_window_that_has_not_ended_by_a_clock_that_is_late_is_refused(
    host: Simulator, truth: Rows, earlier: Files, tmp_path: Path
) -> None:
    put(earlier, tmp_path)
    assert "has not ended yet" in fails(tmp_path, host, first=_CLOCK.format(at_start=172_800, later=0))
    completes(tmp_path, host, truth)
