"""A queue's file among others who want it: turns, patience, and what is said where it cannot be used."""

import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.queue import patience, store
from jetstream_pipeline.storage.queue.files import file
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


class _Clock:
    """Passes by naps alone; at a moment something happens."""

    def __init__(self, moment: float, happens: Callable[[], None]) -> None:
        self.now = 0.0
        self._moment = moment
        self._happens = happens

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        before, self.now = self.now, self.now + seconds
        if before < self._moment <= self.now:
            self._happens()


def test_a_lock_that_comes_late_leaves_only_the_rest_of_patience_for_an_open_file(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Queue("work", data_dir=tmp_path, patience=4)
    lock = os.open(queue.path.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    clock = _Clock(3, lambda: os.close(lock))
    monkeypatch.setattr(patience, "time", clock)
    with duckdb.connect(queue.path), pytest.raises(QueueBusy):
        impatient.stats()
    assert 4 <= clock.now <= 4.1


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


_NO_ROOM_TO_CLOSE = """
import resource, signal, sys
from jetstream_pipeline import Queue
queue = Queue("work", data_dir=sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (queue.path.stat().st_size, resource.RLIM_INFINITY))
added = [queue.batch_add_items_to_queue([{"text": "x" * 1000}] * 20) for _ in range(3)]
assert queue.path.with_name("work.duckdb.wal").exists()
print(sum(added), len(queue))
"""


def test_what_the_file_has_no_room_for_is_kept_beside_it(queue: Queue, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _NO_ROOM_TO_CLOSE, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "60 60\n", result.stderr
    assert len(queue) == 60
    assert not queue.path.with_name("work.duckdb.wal").exists()


def test_after_a_call_all_is_in_the_file(queue: Queue, tmp_path: Path) -> None:
    for number in range(1, 4):
        queue.batch_add_items_to_queue([{}] * 10)
        queue.claim(5)
        assert {path.name for path in queue.path.parent.iterdir()} == {"work.duckdb", "work.lock", "work.turn"}
        with duckdb.connect(shutil.copy(queue.path, tmp_path / "copy.duckdb")) as connection:
            assert connection.execute("SELECT count(*), count(token) FROM items").fetchone() == (
                10 * number,
                5 * number,
            )


def test_a_call_that_failed_holds_nothing(queue: Queue) -> None:
    def fail() -> None:
        with queue.opened():
            raise RuntimeError

    with pytest.raises(RuntimeError) as told:
        fail()
    with duckdb.connect(queue.path) as connection:
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (0,)
    assert queue.add({}) == 1
    assert told.value.__traceback__, "what refers to the call is still there"


def test_a_process_that_was_forked_goes_on_with_the_queue(queue: Queue) -> None:
    queue.add({})
    child = os.fork()
    if not child:
        try:
            os._exit(0 if queue.add({}) == 2 and len(queue.claim(1)) == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert (queue.add({}), len(queue)) == (3, 2)


def test_duckdb_is_started_once_for_many_short_calls_and_again_after_a_long_one(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    connect = duckdb.connect

    def counted(*arguments: Any, **options: Any) -> duckdb.DuckDBPyConnection:
        started.append(connect(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(duckdb, "connect", counted)
    monkeypatch.setattr(file, "_LONG_SEC", 60)
    for _ in range(5):
        queue.add({})
    assert len(started) == 1
    monkeypatch.setattr(file, "_LONG_SEC", 0)
    queue.add({})
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        started[0].execute("SELECT 1")
    queue.add({})
    assert len(started) == 2


_EARLIER = """
CREATE TABLE items (id BIGINT, payload VARCHAR, metadata VARCHAR, created_at TIMESTAMP, status VARCHAR,
    attempts INTEGER, available_at TIMESTAMP, lease_until TIMESTAMP, reason VARCHAR, token VARCHAR);
INSERT INTO items SELECT 1 + range, '{}', '{}', TIMESTAMP '2026-01-01', 'pending', 0, NULL, NULL, NULL, NULL
    FROM range(130000);
UPDATE counters SET next_id = 130001, added = 130000;
"""


def test_a_file_with_large_groups_of_rows_goes_on(queue: Queue) -> None:
    with duckdb.connect(queue.path) as connection:
        connection.execute(f"DROP TABLE items; {_EARLIER}")
    for number in range(10):
        assert queue.batch_add_items_to_queue([{"n": n} for n in range(3000)]) == 3000
        items = queue.claim(9000)
        assert [item.id for item in items] == list(range(1 + number * 9000, 1 + (number + 1) * 9000))
        assert queue.ack(items[::2]) == []
        assert queue.release(items[1::2]) == []
        assert len(queue.batch_remove_items_from_queue(4500)) == 4500
    assert [item.id for item in queue.claim(None)] == list(range(90_001, 160_001))


def test_what_the_caller_s_own_duckdb_says_is_not_blamed_on_the_queue(queue: Queue) -> None:
    def fail() -> None:
        with queue.opened():
            duckdb.sql("SELECT nothing")

    with pytest.raises(duckdb.BinderException):
        fail()


def test_ctrl_c_in_a_call_is_a_keyboard_interrupt(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "jetstream_pipeline.storage.queue.files.rows.FileRows.bookmark",
        lambda rows, name: rows._one("SELECT sum(hash(a.range + b.range)) FROM range(1000000) a, range(1000000) b"),
    )
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            queue.bookmark("x")
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_file_stays_small_while_items_come_and_go(queue: Queue) -> None:
    sizes = []
    for _ in range(6):
        with queue.opened():
            for _ in range(20):
                queue.batch_add_items_to_queue([{"text": str(n) * 50} for n in range(1000)])
        while items := queue.claim(5000):
            queue.ack(items)
        sizes.append(queue.path.stat().st_size)
    assert sizes[-1] <= sizes[1] * 1.5


def test_the_file_levels_off_while_batches_come_and_go_call_by_call(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "KEYS_REMEMBERED", 2000)
    monkeypatch.setattr(store, "KEYS_FORGOTTEN", 500)
    keys = (str(number) for number in itertools.count())
    sizes = []
    for number in range(50):
        texts = [{"text": str(n) * 100} for n in range(200)]
        assert (
            queue.batch_add_items_to_queue(texts, keys=list(itertools.islice(keys, 200)), bookmark=("at", "x")) == 200
        )
        if number >= 5:
            assert queue.ack(queue.claim(200)) == []
            sizes.append(queue.path.stat().st_size)
    assert max(sizes[22:]) <= max(sizes[:22]) * 1.25
    with duckdb.connect(queue.path) as connection:
        assert connection.execute("SELECT count(*) FROM bookmarks").fetchone() == (1,)


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
