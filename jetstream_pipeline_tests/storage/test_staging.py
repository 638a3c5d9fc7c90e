"""What a run makes durable is there again when it has died, and nothing else is."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.storage import staging
from jetstream_pipeline.storage.errors import StorageError, WindowBusy
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, quarantined
from jetstream_pipeline.storage.settling import settling
from jetstream_pipeline.storage.staging import Sections, StagedWindow, staged, sweep
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.disks import empty, flip_first, flip_last, flip_middle, lengthen, truncate
from jetstream_pipeline_tests.windows import HOUR, commit, store

LONG = "x" * 1_000_000
DAY_SEC = 86_400
ROOT = Path(__file__).parents[2]


def events(*numbers: int) -> pa.RecordBatch:
    return decode([commit('{"text":"hi"}', number=number) for number in numbers], "host").events


def rejected(*messages: bytes) -> pa.RecordBatch:
    unreadable = [Unreadable(message, "no event", HOUR.start_us) for message in messages]
    return quarantined(unreadable, received_at=HOUR.end, host="host", wire=Wire.V1)


def copied(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows in memory of their own, as they come from the network."""
    return pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in batch], schema=batch.schema)


def sections(files: StagedWindow) -> list[tuple[int, str]]:
    """Each event's section and key."""
    return [(section, key) for section, batch in files.events() for key in batch["rkey"].to_pylist()]


def messages(files: StagedWindow) -> list[bytes]:
    return [message for rows in files.rejected() for message in rows["message"].to_pylist()]


# What is durable


def large_events() -> Iterator[pa.RecordBatch]:
    batch = decode([commit(f'{{"text":"{LONG}"}}', number=number) for number in range(8)], "host").events
    for _ in range(30):
        yield copied(batch)


def test_large_events_make_small_parts_and_are_read_one_part_at_a_time(data: DataDirectory) -> None:
    before = pa.total_allocated_bytes()
    highest = 0
    with staged(data, "network", HOUR) as files:
        for batch in large_events():
            files.add(2, batch)
            highest = max(highest, pa.total_allocated_bytes() - before)
            if files.is_due:
                files.checkpoint("")
        files.wait()
        assert len(list(files.folder.glob("*.events"))) >= 6
        rows = 0
        for _, batch in files.events():
            highest = max(highest, pa.total_allocated_bytes() - before)
            rows += batch.num_rows
    assert rows == 240
    assert highest < 200_000_000


def test_a_part_is_due_when_much_has_come_or_long_ago(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_PART_SEC", 3600.0)
    with staged(data, "network", HOUR) as files:
        assert not files.is_due
        files.add(2, events(1))
        assert not files.is_due
        monkeypatch.setattr(staging, "_PART_SEC", 0.0)
        assert files.is_due
        files.checkpoint("one")
        assert not files.is_due, "nothing came since"
        files.add_rejected(rejected(b"a"))
        assert files.is_due
        monkeypatch.setattr(staging, "_PART_SEC", 3600.0)
        assert not files.is_due
        files.add_rejected(rejected(bytes(40_000_000)))
        assert files.is_due


_DYING = """
import os, signal, sys
from pathlib import Path
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline_tests.storage.test_staging import events, rejected
from jetstream_pipeline_tests.disks import empty, flip_first, flip_last, flip_middle, lengthen, truncate
from jetstream_pipeline_tests.windows import HOUR
with staged(DataDirectory(Path(sys.argv[1])), "network", HOUR) as files:
    files.add(1, events(1, 2))
    files.add(2, events(3))
    files.add_rejected(rejected(b"a", b"b"))
    files.checkpoint("one")
    files.checkpoint("nothing came")
    files.add(2, events(4, 5))
    files.add(3, events(6))
    files.checkpoint("three")
    files.add(3, events(7))
    files.add_rejected(rejected(b"c"))
    files.wait()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_dead_process_made_durable_is_there_again_and_what_it_did_not_is_not(data: DataDirectory) -> None:
    assert subprocess.run([sys.executable, "-c", _DYING, str(data.root)], cwd=ROOT).returncode == -9
    with staged(data, "network", HOUR) as files:
        assert files.state == "three"
        assert sections(files) == [(1, "k1"), (1, "k2"), (2, "k3"), (2, "k4"), (2, "k5"), (3, "k6")]
        assert messages(files) == [b"a", b"b"]
        files.add(3, events(8))
        files.add_rejected(rejected(b"d"))
        files.checkpoint("four")
    with staged(data, "network", HOUR) as files:
        assert files.state == "four"
        assert sections(files)[5:] == [(3, "k6"), (3, "k8")]
        assert messages(files) == [b"a", b"b", b"d"]


def test_what_is_not_durable_yet_is_told_too(data: DataDirectory) -> None:
    with staged(data, "network", HOUR) as files:
        files.add(1, events(1))
        files.add_rejected(rejected(b"a"))
        files.checkpoint("one")
        files.add(1, events(2))
        files.add_rejected(rejected(b"b"))
        assert sections(files) == [(1, "k1"), (1, "k2")]
        assert messages(files) == [b"a", b"b"]
        assert [batch["rkey"].to_pylist() for batch in files.latest_events(10)] == [["k1"]]


def test_the_latest_events_are_at_least_as_many_as_asked_for_and_in_order(data: DataDirectory) -> None:
    with staged(data, "network", HOUR) as files:
        for number in range(0, 40, 4):
            files.add(1, events(number, number + 1))
            files.add(2, events(number + 2, number + 3))
            files.checkpoint("")
        for asked, from_number in ((0, 40), (1, 36), (4, 36), (5, 32), (1_000, 0)):
            keys = [key for batch in files.latest_events(asked) for key in batch["rkey"].to_pylist()]
            assert keys == [f"k{number}" for number in range(from_number, 40)]


def test_a_run_that_begins_anew_finds_nothing_of_the_old_one(data: DataDirectory) -> None:
    with staged(data, "network", HOUR) as files:
        files.add(1, events(1))
        files.add_rejected(rejected(b"a"))
        files.checkpoint("old")
        files.add(1, events(2))
        files.clear()
        assert files.state is None
        assert (sections(files), messages(files), list(files.folder.iterdir())) == ([], [], [])
        files.add(1, events(3))
        files.checkpoint("new")
    with staged(data, "network", HOUR) as files:
        assert (files.state, sections(files), messages(files)) == ("new", [(1, "k3")], [])


# What is damaged of it

PARTS = 4


def stage_parts(data: DataDirectory) -> None:
    with staged(data, "network", HOUR) as files:
        for number in range(1, PARTS + 1):
            files.add(2, events(number))
            files.add_rejected(rejected(b"%d" % number))
            files.checkpoint(str(number))


def part(data: DataDirectory, number: int, kind: str) -> Path:
    (path,) = data.staging.glob(f"network/*/{number:06}-*.{kind}")
    return path


@pytest.mark.parametrize("number", range(1, PARTS + 1))
@pytest.mark.parametrize("kind", ["events", "rejected"])
@pytest.mark.parametrize("damage", [Path.unlink, truncate, empty, flip_first, flip_middle, flip_last, lengthen])
def test_a_damaged_part_and_all_later_ones_are_dropped_and_the_earlier_ones_stay(
    data: DataDirectory, damage: Callable[[Path], None], kind: str, number: int
) -> None:
    stage_parts(data)
    kept = {part(data, earlier, kind) for earlier in range(1, number) for kind in ("events", "rejected")}
    damage(part(data, number, kind))
    with staged(data, "network", HOUR) as files:
        assert files.state == (str(number - 1) if number > 1 else None)
        assert sections(files) == [(2, f"k{earlier}") for earlier in range(1, number)]
        assert messages(files) == [b"%d" % earlier for earlier in range(1, number)]
        assert set(files.folder.iterdir()) == kept
        files.add(2, events(9))
        files.checkpoint("again")
    with staged(data, "network", HOUR) as files:
        assert files.state == "again"
        assert sections(files)[number - 1 :] == [(2, "k9")]


def test_what_else_a_dead_run_left_there_is_deleted(data: DataDirectory) -> None:
    stage_parts(data)
    (folder,) = data.staging.glob("network/*/")
    parts = set(folder.iterdir())
    for name in ("000005-00000000.tmp", "events.parquet", "000005-01234567.rejected", "000007-2d06800538d394c2.events"):
        (folder / name).write_bytes(b"")
    with staged(data, "network", HOUR) as files:
        assert files.state == str(PARTS)
        assert set(folder.iterdir()) == parts


def test_a_part_with_the_columns_of_another_version_is_not_gone_on_with(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fewer = pa.schema([field for field in rejected().schema if field.name != "wire"])
        patch.setattr("jetstream_pipeline.storage.staging.QUARANTINE_SCHEMA", fewer)
        with staged(data, "network", HOUR) as files:
            files.add(2, events(1))
            files.checkpoint("one")
            files.add_rejected(rejected(b"a").select(fewer.names))
            files.checkpoint("two")
    with staged(data, "network", HOUR) as files:
        assert files.state == "one"
        assert messages(files) == []


# Whose it is


def test_another_process_is_at_a_window_or_is_not(data: DataDirectory) -> None:
    script = _DYING.replace("os.kill(os.getpid(), signal.SIGKILL)", "print('at it', flush=True); signal.pause()")
    command = [sys.executable, "-c", script, str(data.root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "at it\n"
            for purpose in ("", "verifying"):
                with pytest.raises(WindowBusy, match=r"another run is at network 2026-07-04 14:00"):
                    enter(data, HOUR, purpose=purpose)
            enter(data, Window.hour(HOUR.end))
            enter(data, HOUR, stream="other")
        finally:
            process.kill()
    with staged(data, "network", HOUR) as files:
        assert files.state == "three"


def enter(data: DataDirectory, window: Window, *, stream: str = "network", purpose: str = "") -> None:
    with staged(data, stream, window, purpose) as files:
        assert files.state is None


def test_what_is_staged_for_another_purpose_is_another_ones(data: DataDirectory) -> None:
    stage_parts(data)
    with staged(data, "network", HOUR, "verifying") as files:
        assert files.state is None
        files.discard()
    with staged(data, "network", HOUR) as files:
        assert files.state == str(PARTS)


def test_folder_and_lock_are_gone_after_it_is_discarded_and_stay_otherwise(data: DataDirectory) -> None:
    stage_parts(data)
    assert left(data) == {"2026-07-04-1400", "2026-07-04-1400.lock"}
    with staged(data, "network", HOUR) as files:
        files.discard()
        assert sections(files)
    assert left(data) == set()


def left(data: DataDirectory, stream: str = "network") -> set[str]:
    return {path.name for path in (data.staging / stream).iterdir()}


def test_what_fails_leaves_the_lake_as_it_was_and_what_was_durable(data: DataDirectory) -> None:
    store(data, [commit("{}")])
    before = data.lake.events_path("network", HOUR).read_bytes()
    with pytest.raises(ZeroDivisionError):
        stage_and_fail(data)
    assert data.lake.events_path("network", HOUR).read_bytes() == before
    with staged(data, "network", HOUR) as files:
        assert files.state == "one"


def stage_and_fail(data: DataDirectory) -> None:
    with staged(data, "network", HOUR) as files:
        files.add(2, events(1))
        files.checkpoint("one")
        raise ZeroDivisionError


# What is forgotten


@contextmanager
def aged(
    data: DataDirectory, hours_ago: int, days: float, *, stream: str = "network", purpose: str = ""
) -> Iterator[None]:
    """A window as a run that died so many days ago has left it; while the body runs another one is at it."""
    with staged(data, stream, Window.hour(HOUR.start - timedelta(hours=hours_ago)), purpose) as files:
        files.add(2, events(1))
        files.checkpoint("one")
        files.wait()
        for path in (*files.folder.iterdir(), files.folder):
            os.utime(path, (time.time() - days * DAY_SEC,) * 2)
        yield


def test_old_leftovers_are_swept_away_and_nothing_else_is(data: DataDirectory) -> None:
    for hours_ago, days, stream, purpose in (
        (0, 4, "network", ""),
        (1, 2, "network", ""),
        (2, 4, "network", ""),
        (3, 4, "other", ""),
        (4, 4, "network", "verifying"),
        (5, 4, "network", "verifying"),
    ):
        with aged(data, hours_ago, days, stream=stream, purpose=purpose):
            pass
    with staged(data, "network", Window.hour(HOUR.start - timedelta(hours=2))) as files:
        files.checkpoint("gone on with")
    with settling(data, "network"):
        pass
    store(data, [commit("{}")], Window.hour(HOUR.start - timedelta(hours=9)))
    lake = {path: path.read_bytes() for path in data.lake.root.rglob("*.parquet")}
    others = left(data, "other")
    with aged(data, 5, days=4):
        sweep(data, "network")
    recent, busy = {"2026-07-04-1300", "2026-07-04-1200"}, {"2026-07-04-0900", "2026-07-04-0900-verifying"}
    locks = {"settling.lock", *(f"{name}.lock" for name in (*recent, "2026-07-04-0900"))}
    assert left(data) == {*recent, *busy, *locks}
    assert left(data, "other") == others
    assert {path: path.read_bytes() for path in data.lake.root.rglob("*.parquet")} == lake
    sweep(data, "network")
    assert not left(data) & busy


def test_a_sweep_where_nothing_was_ever_staged_is_no_failure(data: DataDirectory) -> None:
    sweep(data, "network")
    assert not data.staging.exists()


# What follows


def followed(files: StagedWindow, found: list[tuple[int, str]]) -> None:
    files.follow(
        lambda part: found.extend((section, rkey) for section, batch in part for rkey in batch["rkey"].to_pylist())
    )


def test_a_follower_gets_what_is_durable_in_order_and_once(data: DataDirectory) -> None:
    found: list[tuple[int, str]] = []
    with staged(data, "network", HOUR) as files:
        files.add(1, events(1))
        files.checkpoint("one")
        followed(files, found)
        files.add(2, events(2, 3))
        files.checkpoint("two")
        files.add(3, events(4))
        files.wait()
        assert found == [(1, "k1"), (2, "k2"), (2, "k3")]
        files.checkpoint("three")
        files.wait()
        files.wait()
        assert found == sections(files)


def test_a_follower_gets_what_a_run_before_has_left_too(data: DataDirectory) -> None:
    stage_parts(data)
    for more in (False, True):
        found: list[tuple[int, str]] = []
        with staged(data, "network", HOUR) as files:
            followed(files, found)
            if more:
                files.add(3, events(1))
                files.checkpoint("more")
            files.wait()
            assert found
            assert found == sections(files)


def test_after_a_part_that_could_not_be_written_none_is_and_the_error_is_told(data: DataDirectory) -> None:
    with staged(data, "network", HOUR) as files:
        files.add(2, events(1))
        files.checkpoint("one")
        files.wait()
        files.folder.chmod(0o500)
        moved = files.folder.rename(files.folder.with_name("elsewhere"))
        files.add(2, events(2))
        files.checkpoint("two")
        with pytest.raises(StorageError, match="cannot write"):
            files.wait()
        moved.rename(files.folder).chmod(0o700)
        files.add(2, events(3))
        with suppress(StorageError):
            files.checkpoint("three")
        with pytest.raises(StorageError, match="cannot write"):
            files.wait()
    with staged(data, "network", HOUR) as files:
        assert files.state == "one"
        assert sections(files) == [(2, "k1")]


def test_what_a_follower_fails_at_is_durable_all_the_same(data: DataDirectory) -> None:
    def fail(_: Sections) -> None:
        raise OSError("no room")

    with staged(data, "network", HOUR) as files:
        files.follow(fail)
        files.add(2, events(1, 2))
        files.checkpoint("so far")
        with pytest.raises(OSError, match="no room"):
            files.wait()
    with staged(data, "network", HOUR) as files:
        assert files.state == "so far"
        assert sum(batch.num_rows for _, batch in files.events()) == 2
