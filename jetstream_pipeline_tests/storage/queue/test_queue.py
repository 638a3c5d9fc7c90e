"""A queue alone: what is added comes out in order, belongs to whoever claimed it, and is never lost."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import BaseModel

from jetstream_pipeline import JetstreamRecord, Queue
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.queue import statements
from jetstream_pipeline.storage.queue.patience import QueueBusy
from jetstream_pipeline.storage.queue.queue import queues

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)


class Named(BaseModel):
    name: str


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    return Queue("work", create_new_queue=True, data_dir=tmp_path, max_attempts=3, clock=clock)


def values(items: list[Any]) -> list[Any]:
    return [item.json() for item in items]


def test_items_come_out_in_the_order_of_their_ids_with_what_was_said_of_them(queue: Queue) -> None:
    assert queue.add({"n": 1}, {"source": "here"}) == 1
    assert queue.batch_add_items_to_queue(['{"n": 2}', {"n": 3}], {"source": "there"}) == 2
    first, second, third = queue.batch_remove_items_from_queue()
    assert [first.id, second.id, third.id] == [1, 2, 3]
    assert (first.payload, first.metadata, first.created_at) == ('{"n": 1}', {"source": "here"}, NOON)
    assert (first.status, first.attempts) == ("pending", 0)
    assert third.metadata == {"source": "there"}
    assert queue.batch_remove_items_from_queue() == []


def test_a_limit_is_kept_and_the_oldest_go_first(queue: Queue) -> None:
    queue.batch_add_items_to_queue([{"n": n} for n in range(10)])
    assert values(queue.batch_remove_items_from_queue(3)) == [{"n": n} for n in range(3)]
    assert values(queue.claim(3)) == [{"n": n} for n in range(3, 6)]
    assert values(queue.peek(2)) == [{"n": 3}, {"n": 4}]
    assert len(queue) == 4
    for take in (queue.claim, queue.batch_remove_items_from_queue, queue.peek):
        assert take(0) == []
        with pytest.raises(InvalidInput, match="limit=-1"):
            take(-1)


def test_ids_are_never_used_twice(queue: Queue, tmp_path: Path) -> None:
    queue.batch_add_items_to_queue([{}] * 3)
    queue.purge()
    assert Queue("work", data_dir=tmp_path).add({}) == 4


def test_a_claimed_item_is_one_consumer_s_until_its_lease_ends(queue: Queue, clock: Clock) -> None:
    queue.batch_add_items_to_queue([{"n": 1}, {"n": 2}])
    (mine,) = queue.claim(1, lease=10)
    assert (mine.status, mine.attempts, mine.lease_until) == ("claimed", 1, NOON + timedelta(seconds=10))
    assert values(queue.claim()) == [{"n": 2}]
    clock.pass_(9.9)
    assert queue.claim() == []
    clock.pass_(0.1)
    (theirs,) = queue.claim(1, lease=timedelta(seconds=10))
    assert (theirs.id, theirs.attempts) == (mine.id, 2)
    assert queue.ack(mine) == [mine]
    assert queue.fail(mine, "late") == [mine]
    assert queue.extend(mine) == [mine]
    assert queue.release(mine) == [mine]
    assert queue.ack(theirs) == []
    assert queue.ack(theirs) == [theirs]


def test_a_lease_may_be_renewed(queue: Queue, clock: Clock) -> None:
    queue.add({})
    items = queue.claim(lease=10)
    clock.pass_(9)
    assert queue.extend(items, lease=10) == []
    clock.pass_(9)
    assert queue.claim() == []
    assert queue.ack(items) == []


def test_what_was_not_begun_is_given_back_without_an_attempt(queue: Queue) -> None:
    queue.add({})
    assert queue.release(queue.claim()) == []
    (again,) = queue.claim()
    assert again.attempts == 1


def test_failing_too_often_ends_among_the_dead_with_the_reason(queue: Queue) -> None:
    queue.add({"n": 1})
    for attempt in range(3):
        (item,) = queue.claim()
        assert queue.fail(item, f"failure {attempt}") == []
    assert queue.claim() == []
    (dead,) = queue.peek(status="dead")
    assert (dead.status, dead.attempts, dead.reason) == ("dead", 3, "failure 2")
    assert queue.requeue_dead() == 1
    (item,) = queue.claim()
    assert item.attempts == 1


def test_losing_the_lease_too_often_ends_among_the_dead_too(queue: Queue, clock: Clock) -> None:
    queue.add({})
    for _ in range(3):
        assert len(queue.claim(lease=1)) == 1
        clock.pass_(1)
    assert queue.claim() == []
    (dead,) = queue.peek(status="dead")
    assert dead.reason == "its lease ran out"


def test_a_failed_item_may_wait_before_it_is_tried_again(queue: Queue, clock: Clock) -> None:
    queue.add({})
    queue.fail(queue.claim(), "later", retry_in=30)
    assert queue.claim() == queue.batch_remove_items_from_queue() == []
    clock.pass_(30)
    assert len(queue.claim()) == 1


def test_a_clock_that_is_set_back_hides_nothing(queue: Queue, clock: Clock) -> None:
    queue.batch_add_items_to_queue([{"n": n} for n in range(3)])
    queue.fail(queue.claim(1), "once more")
    clock.pass_(-3600)
    assert values(queue.batch_remove_items_from_queue(1)) == [{"n": 0}]
    assert values(queue.claim()) == [{"n": 1}, {"n": 2}]


def test_what_was_dead_is_free_at_once(queue: Queue, clock: Clock) -> None:
    queue.add({})
    for _ in range(3):
        queue.fail(queue.claim(), "later", retry_in=10)
        clock.pass_(10)
    clock.pass_(-5)
    assert queue.requeue_dead() == 1
    assert len(queue.claim()) == 1


@pytest.mark.parametrize("span", [float("nan"), float("inf"), -float("inf"), 1e13])
def test_a_span_of_time_that_is_none_is_refused(queue: Queue, span: float) -> None:
    queue.add({})
    with pytest.raises(InvalidInput, match="is not a span of time"):
        queue.claim(lease=span)
    items = queue.claim()
    for call in (lambda: queue.extend(items, span), lambda: queue.fail(items, "no", retry_in=span)):
        with pytest.raises(InvalidInput, match="is not a span of time"):
            call()
    assert queue.ack(items) == []


@pytest.mark.parametrize("reason", ["half \ud83d of it", "a\x00b", 'it\'s "quoted"; $1 ?', "x" * 100_000])
def test_a_reason_may_be_any_text(queue: Queue, reason: str) -> None:
    queue.add({})
    assert queue.fail(queue.claim(), reason) == []
    (item,) = queue.peek()
    assert item.reason == reason.replace("\ud83d", "\\ud83d")


def test_a_limit_may_be_larger_than_any_queue(queue: Queue) -> None:
    queue.add({})
    assert len(queue.claim(10**30)) == 1


def test_expired_items_may_be_freed_by_hand(queue: Queue, clock: Clock) -> None:
    queue.batch_add_items_to_queue([{}, {}])
    queue.claim(1, lease=1)
    clock.pass_(1)
    assert queue.stats().expired == 1
    assert queue.requeue_expired() == 1
    assert (queue.stats().pending, queue.stats().claimed) == (2, 0)


def test_the_figures_add_up(queue: Queue, clock: Clock) -> None:
    queue.batch_add_items_to_queue([{"n": n} for n in range(10)])
    clock.pass_(5)
    queue.add({})
    queue.batch_remove_items_from_queue(2)
    queue.ack(queue.claim(3))
    queue.claim(2)
    stats = queue.stats()
    assert (stats.pending, stats.claimed, stats.dead, stats.added, stats.acknowledged) == (4, 2, 0, 11, 5)
    assert stats.oldest_pending_at == NOON
    assert stats.size_bytes == queue.path.stat().st_size
    assert queue.purge("claimed") == 2
    assert queue.purge() == 4
    assert queue.stats().purged == 6
    assert queue.stats().oldest_pending_at is None
    with pytest.raises(InvalidInput, match="is not a status"):
        queue.purge("all of them")


def test_a_batch_with_a_key_is_added_once(queue: Queue, tmp_path: Path) -> None:
    for _ in range(2):
        Queue("work", data_dir=tmp_path).batch_add_items_to_queue([{"n": 1}], idempotency_key="monday")
        queue.batch_remove_items_from_queue()
    queue.batch_add_items_to_queue([{"n": 2}], idempotency_key="tuesday")
    assert queue.stats().added == 2


def test_an_item_with_a_known_key_is_not_added_again(queue: Queue) -> None:
    assert queue.batch_add_items_to_queue([{"n": n} for n in range(4)], keys=["a", "b", "a", "c"]) == 3
    assert values(queue.batch_remove_items_from_queue()) == [{"n": 0}, {"n": 1}, {"n": 3}]
    assert queue.add({"n": 5}, key="c") is None
    assert queue.add({"n": 6}, key="\ud800") == 4
    assert queue.unknown(["a", "x", "\ud800"]) == [False, True, False]
    with pytest.raises(InvalidInput, match="1 keys for 2 items"):
        queue.batch_add_items_to_queue([{}, {}], keys=["a"])
    with pytest.raises(InvalidInput, match="list of keys"):
        queue.batch_add_items_to_queue([{}, {}], keys="yz")


def test_the_oldest_keys_are_forgotten(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "_KEYS_REMEMBERED", 10)
    for n in range(50):
        queue.batch_add_items_to_queue([{}], keys=[str(n)])
        assert not any(queue.unknown([str(past) for past in range(max(0, n - 9), n + 1)]))
    with duckdb.connect(queue.path) as connection:
        assert connection.execute("SELECT count(*) FROM keys").fetchone() <= (21,)


def test_a_bookmark_is_stored_with_its_batch_or_not_at_all(queue: Queue) -> None:
    assert queue.bookmark("here") is None
    queue.batch_add_items_to_queue([{}], bookmark=("here", "1"), idempotency_key="once")
    queue.batch_add_items_to_queue([{}], bookmark=("here", "2"), idempotency_key="once")
    queue.batch_add_items_to_queue([], bookmark=("there; DROP TABLE items", "3"))
    assert (queue.bookmark("here"), queue.bookmark("there; DROP TABLE items")) == ("2", "3")
    with pytest.raises(InvalidInput):
        queue.batch_add_items_to_queue(["not JSON"], bookmark=("here", "4"))
    for half in (("here\ud800", "5"), ("here", "5\ud800")):
        with pytest.raises(InvalidInput, match="half a character"):
            queue.batch_add_items_to_queue([{}], bookmark=half)
    with pytest.raises(InvalidInput, match="half a character"):
        queue.bookmark("here\ud800")
    assert queue.bookmark("here") == "2"
    assert len(queue) == 1


@pytest.mark.parametrize(
    "payload",
    [
        {"text": "before\x00after"},
        {"text": "half a pair: \ud83d"},
        {"text": "x" * 2_000_000},
        {"big": 2**70, "float": 1.5, "none": None, "list": [1, [2, [3]]]},
        {"'; DROP TABLE items; --": "$1 ? {}"},
    ],
)
def test_awkward_payloads_come_back_equal(queue: Queue, payload: dict[str, Any]) -> None:
    queue.batch_add_items_to_queue([payload, json.dumps(payload)], payload if len(str(payload)) < 1000 else None)
    first, second = queue.claim()
    assert first.json() == second.json() == payload


def test_text_stays_as_it_was_given(queue: Queue) -> None:
    texts = ['{ "a" :1 }', r'{"half":"\ud83d"}', '{"line":\n"break"}', "[" * 500 + "]" * 500, "7"]
    queue.batch_add_items_to_queue(texts)
    assert [item.payload for item in queue.peek()] == texts


def test_a_model_is_an_item(queue: Queue) -> None:
    commit = {
        "rev": "3k",
        "operation": "create",
        "collection": "a.b.c",
        "rkey": "k",
        "cid": "b",
        "record": {"t": "\ud83d"},
    }
    record = JetstreamRecord(did="did:plc:a", time_us=1, kind="commit", commit=commit)
    queue.add(record)
    assert JetstreamRecord.from_json(queue.peek()[0].payload) == record


@pytest.mark.parametrize("bad", ["", "{", "{'a': 1}", {"a": {1, 2}}, {"a": float("nan")}, b"bytes", "\ud800"])
def test_what_is_no_json_is_refused_and_nothing_of_its_batch_is_added(queue: Queue, bad: Any) -> None:
    with pytest.raises(InvalidInput, match="item 1 is not JSON"):
        queue.batch_add_items_to_queue([{}, bad])
    assert queue.stats().added == 0


def test_metadata_that_is_no_json_is_refused(queue: Queue) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for metadata in ({"a": {1}}, {"a": deep}):
        with pytest.raises(InvalidInput, match="metadata"):
            queue.add({}, metadata)
    assert queue.stats().added == 0


@pytest.mark.parametrize("single", ["[1, 2]", b"12", {"n": 1}, Named(name="x")])
def test_a_single_item_is_not_taken_for_a_batch(queue: Queue, single: Any) -> None:
    with pytest.raises(InvalidInput, match="list of items"):
        queue.batch_add_items_to_queue(single)
    assert queue.stats().added == 0


def test_any_number_of_items_goes_into_one_call(queue: Queue) -> None:
    assert queue.batch_add_items_to_queue([]) == 0
    assert queue.batch_add_items_to_queue({"n": n} for n in range(100_000)) == 100_000
    assert [item.id for item in queue.claim(None)] == list(range(1, 100_001))


@pytest.mark.parametrize("name", ["", "work\n", "../work", "a;b", "Work", "a/b", "a.b", "x" * 100])
def test_names_are_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a queue"):
        Queue(name, create_new_queue=True, data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_queue_that_is_missing_is_not_made_unasked(queue: Queue, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no queue other .*; there: work"):
        Queue("other", data_dir=tmp_path)
    queue.add({})
    assert len(Queue("work", create_new_queue=True, data_dir=tmp_path)) == 1
    (queue.path.parent / "Somebody's notes.duckdb").touch()
    assert queues(tmp_path) == ["work"]


def test_the_data_directory_is_the_environment_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETSTREAM_DATA_DIR", str(tmp_path))
    Queue("here", create_new_queue=True)
    assert queues(tmp_path) == ["here"]


def test_max_attempts_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="max_attempts=0"):
        Queue("work", create_new_queue=True, data_dir=tmp_path, max_attempts=0)


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
