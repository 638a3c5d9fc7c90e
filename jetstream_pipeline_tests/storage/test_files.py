"""A file is replaced whole or not at all; a lock has one holder, whoever dies and whatever is removed meanwhile."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from jetstream_pipeline.storage.errors import StorageError, WindowBusy
from jetstream_pipeline.storage.files import Lock, locked, move, replacing
from jetstream_pipeline_tests import disks
from jetstream_pipeline_tests.disks import read_only, small

BUSY = WindowBusy("somebody has it")
DAY_SEC = 86_400


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "events.parquet"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("half of the n")
        assert target.read_text() == "old"
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert entries(tmp_path) == ["events.parquet"]


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "jetstream.duckdb"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_half(target)
    assert target.read_text() == "old"
    assert entries(tmp_path) == ["jetstream.duckdb"]


def write_half(target: Path) -> None:
    with replacing(target) as temporary:
        temporary.write_text("half")
        Path(f"{temporary}.wal").write_text("the log that DuckDB writes first")
        raise ZeroDivisionError


def test_what_dead_processes_left_beside_a_file_goes_once_it_is_old(tmp_path: Path) -> None:
    left = [".a.duckdb.1.00.tmp", ".a.duckdb.1.00.tmp.wal", ".a.duckdb.2.00.tmp", ".b.duckdb.1.00.tmp"]
    for name in left:
        (tmp_path / name).write_text("half")
        if name != ".a.duckdb.2.00.tmp":
            os.utime(tmp_path / name, (time.time() - DAY_SEC,) * 2)
    with replacing(tmp_path / "a.duckdb") as temporary:
        temporary.write_text("new")
    assert entries(tmp_path) == [".a.duckdb.2.00.tmp", ".b.duckdb.1.00.tmp", "a.duckdb"]


def test_a_disk_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    target = tmp_path / "events.parquet"
    target.write_text("old")
    with read_only(tmp_path):
        with pytest.raises(StorageError, match=r"cannot write .*events\.parquet: (Read-only|Permission)"):
            write(target, b"new")
        with (
            pytest.raises(StorageError, match=r"cannot lock .*network\.lock: (Read-only|Permission)"),
            locked(tmp_path / "network.lock"),
        ):
            pass
    assert target.read_text() == "old"


def test_a_full_disk_is_told_and_has_its_room_again(tmp_path: Path) -> None:
    with small(tmp_path, kilobytes=256):
        target = tmp_path / "events.parquet"
        write(target, b"old")
        with pytest.raises(StorageError, match=r"cannot write .*events\.parquet: No space left on device"):
            write(target, bytes(1_000_000))
        assert target.read_bytes() == b"old"
        write(target, bytes(200_000))


def write(target: Path, content: bytes) -> None:
    with replacing(target) as temporary, temporary.open("wb") as file:
        file.write(content)


def test_a_lock_has_one_holder_and_a_dead_process_holds_none(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    script = (
        "import sys, time; from pathlib import Path; from jetstream_pipeline.storage.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WindowBusy, match="somebody has it"), locked(path, BUSY):
            pass
        holder.kill()
        holder.wait()
        with locked(path, BUSY):
            pass


def test_whoever_waited_for_a_lock_that_was_removed_holds_the_one_that_is_there(tmp_path: Path) -> None:
    """Otherwise the next one would make a new file, and two would hold what each takes for the lock."""
    path = tmp_path / "a.lock"
    others: list[str] = []

    def wait() -> None:
        with locked(path):
            others.append(as_another(path))

    with waiting(path, wait) as lock:
        lock.remove()
    assert others == ["busy"]


def test_a_lock_that_cannot_be_had_any_more_is_told_to_whoever_waited(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.lock"
    path.parent.mkdir()
    told: list[str] = []

    def wait() -> None:
        with pytest.raises(StorageError, match="cannot lock") as caught, locked(path):
            pass
        told.append(str(caught.value))

    with waiting(path, wait) as lock:
        lock.remove()
        path.parent.rmdir()
    assert str(path) in told[0]


@contextmanager
def waiting(path: Path, wait: Callable[[], None]) -> Iterator[Lock]:
    """The lock, held while somebody else, who has its file open, waits for it; who has ended afterwards."""
    thread = threading.Thread(target=wait)
    with locked(path) as lock:
        thread.start()
        status = path.stat()
        while sum(os.path.samestat(status, found) for found in open_files()) < 2:
            time.sleep(0.001)
        yield lock
    thread.join()


def open_files() -> Iterator[os.stat_result]:
    for descriptor in os.listdir("/dev/fd"):
        with suppress(OSError):
            yield os.fstat(int(descriptor))


def as_another(path: Path) -> str:
    try:
        with locked(path, BUSY):
            return "free"
    except WindowBusy:
        return "busy"


def test_many_who_remove_the_lock_each_time_are_never_two(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    within: list[int] = []
    most = 0

    def work(number: int) -> None:
        nonlocal most
        for _ in range(50):
            with locked(path) as lock:
                within.append(number)
                most = max(most, len(within))
                time.sleep(0)
                within.remove(number)
                lock.remove()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == 1
    assert entries(tmp_path) == []


def test_a_file_is_put_in_place_from_another_file_system_too(tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "lake" / "file"
    elsewhere.mkdir()
    with disks.small(elsewhere, 100):
        for content in ("old", "new"):
            (elsewhere / "file").write_text(content)
            move(elsewhere / "file", target)
            assert target.read_text() == content
            assert not list(elsewhere.iterdir())
    assert list(target.parent.iterdir()) == [target]
