"""A queue's file among others who want it: turns, patience, and what is said where it cannot be used."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.queue.patience import QueueBusy

_BUSY = """
import json, os, sys, time
from jetstream_pipeline import Queue
queue = Queue("work", data_dir=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
calls, longest, end = 0, 0.0, time.monotonic() + 6
while time.monotonic() < end:
    began = time.monotonic()
    queue.stats()
    calls, longest = calls + 1, max(longest, time.monotonic() - began)
print(json.dumps([calls, longest]))
"""


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue("work", create_new_queue=True, data_dir=tmp_path, patience=20)


def test_everybody_has_a_turn(queue: Queue, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BUSY, str(tmp_path)]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in crowd:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    calls = [json.loads(process.communicate(timeout=60)[0])[0] for process in crowd]
    assert min(calls) * 10 > max(calls), f"somebody was kept from the queue: {calls}"


@pytest.mark.parametrize("read_only", [True, False])
def test_this_process_s_own_duckdb_is_waited_for_and_named(queue: Queue, tmp_path: Path, read_only: bool) -> None:
    connection = duckdb.connect(queue.path, read_only=read_only)
    impatient = Queue("work", data_dir=tmp_path, patience=0.1)
    with pytest.raises(QueueBusy, match=r"holds the queue work for more than 0.1 s"):
        impatient.stats()
    threading.Timer(0.3, connection.close).start()
    assert queue.add({}) == 1


def test_another_thread_that_keeps_it_open_is_named(queue: Queue, tmp_path: Path) -> None:
    impatient = Queue("work", data_dir=tmp_path, patience=0.1)
    told: list[QueueBusy] = []

    def call() -> None:
        with pytest.raises(QueueBusy, match=f"process {os.getpid()} holds") as busy:
            impatient.stats()
        told.append(busy.value)

    with impatient.opened():
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(30)
    assert len(told) == 1


def test_patience_may_be_without_end(tmp_path: Path) -> None:
    assert Queue("work", create_new_queue=True, data_dir=tmp_path, patience=float("inf")).add({}) == 1


def test_a_lock_that_comes_late_leaves_only_the_rest_of_patience_for_an_open_file(queue: Queue, tmp_path: Path) -> None:
    impatient = Queue("work", data_dir=tmp_path, patience=4)
    lock = os.open(queue.path.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(3, os.close, [lock]).start()
    began = time.monotonic()
    with duckdb.connect(queue.path), pytest.raises(QueueBusy):
        impatient.stats()
    assert time.monotonic() - began < 3 + 3


def test_a_file_that_is_gone_is_told_and_the_queue_can_be_made_again(queue: Queue, tmp_path: Path) -> None:
    queue.path.unlink()
    with pytest.raises(StorageError, match=r"work\.duckdb is gone; make the queue again"):
        queue.add({})
    assert not queue.path.exists()
    assert Queue("work", create_new_queue=True, data_dir=tmp_path).add({}) == 1
    assert queue.add({}) == 2


def test_a_broken_file_is_not_taken_for_a_busy_one_wherever_it_lies(tmp_path: Path) -> None:
    queue = Queue("work", create_new_queue=True, data_dir=tmp_path / "locked blocks")
    queue.path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StorageError, match="not a valid DuckDB database") as told:
        queue.add({})
    assert not isinstance(told.value, QueueBusy)


@pytest.mark.parametrize("size", [0, 100, 9000])
def test_a_file_that_was_cut_is_told_in_one_line(queue: Queue, size: int) -> None:
    queue.batch_add_items_to_queue([{"n": n, "text": "x" * 100} for n in range(1000)])
    queue.path.write_bytes(queue.path.read_bytes()[:size])
    with pytest.raises(StorageError, match=r"work\.duckdb") as told:
        queue.peek(None)
    assert "\n" not in str(told.value)


_FULL = """
import resource, signal, sys
from jetstream_pipeline import Queue
from jetstream_pipeline.storage.errors import StorageError
queue = Queue("work", data_dir=sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
add = lambda: queue.batch_add_items_to_queue([{"text": "x" * 1000}] * 50)
added = 0
with queue.opened():
    try:
        while True:
            added += add()
    except StorageError as error:
        assert "\\n" not in str(error), error
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    added += add()
print(added)
"""


def test_a_disk_that_is_full_loses_nothing_that_was_told_and_works_again_with_room(
    queue: Queue, tmp_path: Path
) -> None:
    result = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(queue) == queue.stats().added == int(result.stdout)


def test_what_the_caller_s_own_duckdb_says_is_not_blamed_on_the_queue(queue: Queue) -> None:
    def fail() -> None:
        with queue.opened():
            duckdb.sql("SELECT nothing")

    with pytest.raises(duckdb.BinderException):
        fail()


def test_ctrl_c_in_a_call_is_a_keyboard_interrupt(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "jetstream_pipeline.storage.queue.statements.last_id",
        lambda connection: connection.execute(
            "SELECT sum(hash(a.range + b.range)) FROM range(1000000) a, range(1000000) b"
        ),
    )
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            queue.add({})
    finally:
        signal.signal(signal.SIGALRM, before)
