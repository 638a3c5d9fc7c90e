"""A queue alone: what is added comes out in order, belongs to whoever claimed it, and is never lost."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.queue import store
from jetstream_pipeline.storage.queue.queue import queues
from jetstream_pipeline_tests.storage.queue.conftest import NOON, Clock


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


def test_what_nobody_has_claimed_is_nobody_s(queue: Queue) -> None:
    queue.batch_add_items_to_queue([{}, {}])
    seen = queue.peek()
    assert queue.ack(seen) == queue.fail(seen, "no") == queue.release(seen) == queue.extend(seen) == seen
    assert queue.peek() == seen


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
    assert stats.size_bytes == (queue.path.stat().st_size if queue.path else 6 * len('{"n": 0}{}') - len('"n": 9'))
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
    monkeypatch.setattr(store, "KEYS_REMEMBERED", 10)
    monkeypatch.setattr(store, "KEYS_FORGOTTEN", 5)
    for n in range(50):
        queue.batch_add_items_to_queue([{}], keys=[str(n)])
        assert not any(queue.unknown([str(past) for past in range(max(0, n - 9), n + 1)]))
    assert sum(not unknown for unknown in queue.unknown([str(past) for past in range(50)])) <= 16


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
    if queue.path:
        (queue.path.parent / "Somebody's notes.duckdb").touch()
    assert queues(tmp_path) == ["work"]


def test_the_data_directory_is_the_environment_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETSTREAM_DATA_DIR", str(tmp_path))
    Queue("here", create_new_queue=True)
    assert queues(tmp_path) == ["here"]


def test_max_attempts_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="max_attempts=0"):
        Queue("work", create_new_queue=True, data_dir=tmp_path, max_attempts=0)
