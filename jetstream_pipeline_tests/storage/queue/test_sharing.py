"""A queue among others: processes and threads that use it too, hold it, die inside, or have spoiled its file."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.queue.patience import QueueBusy


def test_anybody_may_read_between_calls(queue: Queue) -> None:
    queue.add({"text": "hello"})
    with duckdb.connect(queue.path, read_only=True) as connection:
        rows = connection.execute("SELECT id, payload->>'text', status FROM items").fetchall()
    assert rows == [(1, "hello", "pending")]
    queue.add({})


def holding(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Somebody's DuckDB, which has the file open."""
    script = f"import duckdb, time; c = duckdb.connect({str(path)!r}); print('open', flush=True); time.sleep({seconds})"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    return process


def test_whoever_holds_the_file_for_too_long_is_named(queue: Queue, tmp_path: Path) -> None:
    impatient = Queue("work", data_dir=tmp_path, patience=0.3)
    process = holding(queue.path, 60)
    with pytest.raises(QueueBusy, match=f"process {process.pid} holds the queue work for more than 0.3 s") as told:
        impatient.add({})
    assert told.value.passing
    process.kill()
    process.wait()
    assert impatient.add({}) == 1


def test_whoever_holds_it_for_a_moment_is_waited_for(queue: Queue) -> None:
    process = holding(queue.path, 1)
    assert queue.add({}) == 1
    process.wait()


def test_another_of_our_own_is_named_too(queue: Queue, tmp_path: Path) -> None:
    script = f"""
import time
from jetstream_pipeline import Queue
with Queue("work", data_dir={str(tmp_path)!r}).opened():
    print("open", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    with pytest.raises(QueueBusy, match=f"process {process.pid} "):
        Queue("work", data_dir=tmp_path, patience=0.2).stats()
    process.kill()
    process.wait()
    assert queue.add({}) == 1


def test_threads_may_share_a_queue(queue: Queue) -> None:
    def add(number: int) -> None:
        with queue.opened():
            for n in range(5):
                queue.batch_add_items_to_queue([{"thread": number, "n": n}])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((item.json()["thread"], item.json()["n"]) for item in queue.peek(None)) == [
        (number, n) for number in range(4) for n in range(5)
    ]


def test_calls_inside_opened_stand_each_for_itself(queue: Queue) -> None:
    def fail() -> None:
        with queue.opened():
            queue.add({})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(queue) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_commit_all_or_nothing_is_there(queue: Queue, tmp_path: Path, when: str) -> None:
    queue.add({})
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    script = f"""
from jetstream_pipeline import Queue
from jetstream_pipeline.storage.queue import queue as module
queue = Queue("work", data_dir={str(tmp_path)!r})
real = module.sql.set_bookmark
def killed(*arguments):
    real(*arguments)
    {kill}
if {when!r} == "before":
    module.sql.set_bookmark = killed
with queue.opened():
    queue.batch_add_items_to_queue([{{}}] * 1000, bookmark=("b", "x"))
    {kill}
"""
    result = subprocess.run([sys.executable, "-c", script], check=False)
    assert result.returncode == -9
    assert len(queue) == (1 if when == "before" else 1001)
    assert queue.bookmark("b") == (None if when == "before" else "x")
    assert queue.add({}) == (2 if when == "before" else 1002)


def test_two_that_make_the_same_queue_at_once_share_it(tmp_path: Path) -> None:
    script = f"""
from jetstream_pipeline import Queue
Queue("work", create_new_queue=True, data_dir={str(tmp_path)!r}).add({{}})
"""
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(Queue("work", data_dir=tmp_path)) == 4


def broken(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another_database(path: Path) -> None:
    path.unlink()
    duckdb.connect(path).close()


@pytest.mark.parametrize("harm", [broken, a_folder, another_database])
def test_a_file_that_is_no_queue_is_told_in_one_line(queue: Queue, harm: Callable[[Path], None]) -> None:
    harm(queue.path)
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"work\.duckdb") as told:
        queue.add({})
    assert "\n" not in str(told.value)
    assert time.monotonic() - began < 20
