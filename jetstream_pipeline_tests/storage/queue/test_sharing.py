"""A queue among others: threads and processes that use it too, or die inside."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jetstream_pipeline import Queue


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
def test_killed_around_the_commit_all_or_nothing_is_there(
    queue: Queue, tmp_path: Path, queue_place: str, when: str
) -> None:
    queue.add({})
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    script = f"""
from jetstream_pipeline import Queue
queue = Queue("work", data_dir={str(tmp_path)!r})
if {queue_place!r} == "duckdb":
    from jetstream_pipeline.storage.queue.files.rows import FileRows as Rows
else:
    from jetstream_pipeline.storage.queue.postgres.rows import PostgresRows as Rows
real = Rows.set_bookmark
def killed(*arguments):
    real(*arguments)
    {kill}
if {when!r} == "before":
    Rows.set_bookmark = killed
with queue.opened():
    queue.batch_add_items_to_queue([{{}}] * 1000, bookmark=("b", "x"))
    {kill}
"""
    result = subprocess.run([sys.executable, "-c", script], check=False)
    assert result.returncode == -9
    assert len(queue) == (1 if when == "before" else 1001)
    assert queue.bookmark("b") == (None if when == "before" else "x")
    assert queue.add({}) == (2 if when == "before" else 1002)


@pytest.mark.usefixtures("queue_place")
def test_those_that_make_the_same_queue_at_once_share_it(tmp_path: Path) -> None:
    script = f"""
from jetstream_pipeline import Queue
Queue("work", create_new_queue=True, data_dir={str(tmp_path)!r}).add({{}})
"""
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(Queue("work", data_dir=tmp_path)) == 4
