"""What a run makes durable is there again when it has died, and nothing else is; and a window's bytes are its rows'."""

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.storage.errors import WindowBusy
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, quarantined
from jetstream_pipeline.storage.staging import StagedWindow, settling, staged, sweep
from jetstream_pipeline.storage.summary import Counts, WindowSummary
from jetstream_pipeline.storage.window_file import write_window
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.windows import HOUR, commit, store

LONG = "x" * 1_000_000
DAY_SEC = 86_400
ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path)


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


# A window's file


def describing(data: DataDirectory, seconds: float = 1.0) -> Callable[[Counts], WindowSummary]:
    summary = store(data, [], seconds=seconds)
    return lambda counts: summary.model_copy(update=counts.model_dump())


def data_pages(path: Path) -> bytes:
    content = path.read_bytes()
    (footer,) = struct.unpack("<I", content[-8:-4])
    return content[: -8 - footer]


def test_the_same_rows_in_other_batches_make_the_same_bytes(data: DataDirectory) -> None:
    """DuckDB opens a file once for its footer and once for its data: a replacement between the two goes unnoticed."""
    texts = [commit('{"text":"%s"}' % ("x" * (number % 700)), number=number) for number in range(70_000)]
    rows = decode(texts, "host").events
    chance = random.Random(1)
    written = []
    for number in range(2):
        batches, start = [], 0
        while start < rows.num_rows:
            size = chance.randint(1, 9_000)
            batches.append(rows.slice(start, size))
            start += size
        written.append(data.root / f"{number}.parquet")
        write_window(written[-1], batches, describing(data, seconds=10.0**number))
    assert data_pages(written[0]) == data_pages(written[1])
    assert pq.read_metadata(written[0]).num_row_groups == 2
    assert pq.ParquetFile(written[0]).read().equals(pa.Table.from_batches([rows]))


def test_many_small_batches_cost_little_more_than_their_rows(data: DataDirectory) -> None:
    describe = describing(data)
    rows = [events(number) for number in range(100)]
    before = pa.total_allocated_bytes()
    used = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal used
        for number in range(5_000):
            yield copied(rows[number % 100])
        used = pa.total_allocated_bytes() - before

    write_window(data.root / "events.parquet", batches(), describe)
    assert pq.read_metadata(data.root / "events.parquet").num_rows == 5_000
    assert 0 < used < 2_000_000


def with_record(number: int) -> bytes:
    return commit(f'{{"text":"{LONG}"}}', number=number)


def with_payload(number: int) -> bytes:
    return f'{{"did":"did:plc:a","time_us":{number},"kind":"identity","identity":{{"a":"{LONG}"}}}}'.encode()


def with_key(number: int) -> bytes:
    return commit("{}", number=number).replace(b'"rkey":"', b'"rkey":"' + LONG.encode())


@pytest.mark.parametrize("message", [with_record, with_payload, with_key])
def test_large_events_make_small_parts_and_row_groups(data: DataDirectory, message: Callable[[int], bytes]) -> None:
    batch = decode([message(number) for number in range(8)], "host").events
    assert batch.num_rows == 8
    describe = describing(data)
    before = pa.total_allocated_bytes()
    highest = 0

    def watched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        nonlocal highest
        for one in batches:
            highest = max(highest, pa.total_allocated_bytes() - before)
            yield one

    with staged(data, "network", HOUR) as files:
        for one in watched(copied(batch) for _ in range(30)):
            files.add(2, one)
            if files.is_due:
                files.checkpoint("")
        parts = len(list(files.folder.glob("*.events")))
        path = files.folder / "events.parquet"
        write_window(path, watched(rows for _, rows in files.events()), describe)
        metadata = pq.read_metadata(path)
    assert parts >= 5
    assert metadata.num_rows == 240
    assert max(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)) < 64_000_000
    assert highest < 200_000_000


# What is durable

_DYING = """
import os, signal, sys
from pathlib import Path
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline_tests.storage.test_staging import events, rejected
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


# What is damaged

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


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_first(path: Path) -> None:
    flip(path, 0)


def flip_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def flip_last(path: Path) -> None:
    flip(path, path.stat().st_size - 1)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


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
    for name in ("000005-00000000.tmp", "events.parquet", "000005-01234567.rejected", "000007-00000000.events"):
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
def aged(data: DataDirectory, hours_ago: int, days: float, stream: str = "network") -> Iterator[None]:
    """A window as a run that died so many days ago has left it; the body runs while another one is at it."""
    window = Window.hour(HOUR.start - timedelta(hours=hours_ago))
    with staged(data, stream, window) as files:
        files.add(2, events(1))
        files.checkpoint("one")
        for path in (*files.folder.iterdir(), files.folder):
            os.utime(path, (time.time() - days * DAY_SEC,) * 2)
        yield


def test_old_leftovers_are_swept_away_and_nothing_else_is(data: DataDirectory) -> None:
    with aged(data, 0, days=4), aged(data, 1, days=2), aged(data, 2, days=4), aged(data, 3, days=4, stream="other"):
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
    recent = ("2026-07-04-1300", "2026-07-04-1200", "2026-07-04-0900")
    assert left(data) == {*recent, *(f"{name}.lock" for name in recent), "settling.lock"}
    assert left(data, "other") == others
    assert {path: path.read_bytes() for path in data.lake.root.rglob("*.parquet")} == lake
    sweep(data, "network")
    assert "2026-07-04-0900" not in left(data)


def test_a_sweep_where_nothing_was_ever_staged_is_no_failure(data: DataDirectory) -> None:
    sweep(data, "network")
    assert not data.staging.exists()
