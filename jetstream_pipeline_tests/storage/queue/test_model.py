"""Whatever order its calls come in, a queue does what a list in memory would."""

import tempfile
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jetstream_pipeline import Queue
from jetstream_pipeline.storage.queue.items import QueueItem

_MAX_ATTEMPTS = 2
_LEASE_SEC = 10
_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)


@dataclass
class Item:
    id: int
    status: str = "pending"
    attempts: int = 0
    lease_until: datetime | None = None
    available_at: datetime = _ALWAYS
    claimed_as: QueueItem | None = None


@dataclass
class Model:
    items: list[Item] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    batches: set[str] = field(default_factory=set)
    added: int = 0
    acknowledged: int = 0
    purged: int = 0
    bookmark: str | None = None

    def add(self, keys: list[str] | None, number: int) -> int:
        before = self.added
        for place in range(number):
            if keys is not None:
                if keys[place] in self.keys:
                    continue
                self.keys.add(keys[place])
            self.added += 1
            self.items.append(Item(self.added))
        return self.added - before

    def release(self, item: Item, now: datetime) -> None:
        item.status = "dead" if item.attempts >= _MAX_ATTEMPTS else "pending"
        item.available_at, item.lease_until, item.claimed_as = now, None, None

    def expire(self, now: datetime) -> int:
        expired = [one for one in self.items if one.lease_until and one.lease_until <= now]
        for item in expired:
            self.release(item, now)
        return len(expired)

    def free(self, now: datetime, limit: int) -> list[Item]:
        return [one for one in self.items if one.status == "pending" and one.available_at <= now][:limit]

    def owned(self, claimed: QueueItem) -> Item | None:
        return next((one for one in self.items if one.claimed_as == claimed), None)


class QueueMachine(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.name = f"work_{uuid.uuid4().hex}"
        self.folder = tempfile.TemporaryDirectory()
        self.now = datetime(2026, 7, 4, tzinfo=UTC)
        self.model = Model()
        self.claims: list[QueueItem] = []
        self.open()

    @rule()
    def open(self) -> None:
        self.queue = Queue(
            self.name, True, data_dir=Path(self.folder.name), max_attempts=_MAX_ATTEMPTS, clock=lambda: self.now
        )

    @rule(seconds=st.sampled_from([1, _LEASE_SEC, 100]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(
        keys=st.none() | st.lists(st.sampled_from("abcdefgh"), max_size=4),
        batch=st.none() | st.sampled_from(["x", "y"]),
        bookmark=st.none() | st.text(max_size=3),
    )
    def add(self, keys: list[str] | None, batch: str | None, bookmark: str | None) -> None:
        items = [{"n": n} for n in range(2 if keys is None else len(keys))]
        known = batch is not None and batch in self.model.batches
        expected = 0 if known else self.model.add(keys, len(items))
        if batch is not None:
            self.model.batches.add(batch)
        self.model.bookmark = self.model.bookmark if bookmark is None else bookmark
        mark = None if bookmark is None else ("b", bookmark)
        assert self.queue.batch_add_items_to_queue(items, keys=keys, idempotency_key=batch, bookmark=mark) == expected

    @rule(limit=st.integers(0, 3))
    def claim(self, limit: int) -> None:
        self.model.expire(self.now)
        expected = self.model.free(self.now, limit)
        claimed = self.queue.claim(limit, _LEASE_SEC)
        assert [item.id for item in claimed] == [item.id for item in expected]
        for item, mine in zip(expected, claimed, strict=True):
            item.status, item.attempts, item.claimed_as = "claimed", item.attempts + 1, mine
            item.lease_until = self.now + timedelta(seconds=_LEASE_SEC)
        self.claims += claimed

    def some(self, data: Any) -> tuple[list[QueueItem], list[Item], list[QueueItem]]:
        """Items claimed at some time; what of them is still claimed, and what is not."""
        chosen = data.draw(st.lists(st.sampled_from(self.claims), unique_by=lambda one: one.id)) if self.claims else []
        ours = [item for item in map(self.model.owned, chosen) if item]
        return chosen, ours, [one for one in chosen if self.model.owned(one) is None]

    @rule(data=st.data())
    def ack(self, data: Any) -> None:
        chosen, ours, lost = self.some(data)
        assert self.queue.ack(chosen) == lost
        self.model.items = [item for item in self.model.items if item not in ours]
        self.model.acknowledged += len(ours)

    @rule(data=st.data(), retry_in=st.sampled_from([0, 5]))
    def fail(self, data: Any, retry_in: int) -> None:
        chosen, ours, lost = self.some(data)
        assert self.queue.fail(chosen, "why not", retry_in) == lost
        for item in ours:
            self.model.release(item, self.now + timedelta(seconds=retry_in))

    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        chosen, ours, lost = self.some(data)
        assert self.queue.release(chosen) == lost
        for item in ours:
            item.status, item.attempts = "pending", item.attempts - 1
            item.lease_until = item.claimed_as = None

    @rule(data=st.data())
    def extend(self, data: Any) -> None:
        chosen, ours, lost = self.some(data)
        assert self.queue.extend(chosen, 2 * _LEASE_SEC) == lost
        for item in ours:
            item.lease_until = self.now + timedelta(seconds=2 * _LEASE_SEC)

    @rule(limit=st.integers(0, 2))
    def remove(self, limit: int) -> None:
        gone = self.model.free(self.now, limit)
        assert [item.id for item in self.queue.batch_remove_items_from_queue(limit)] == [item.id for item in gone]
        self.model.items = [item for item in self.model.items if item not in gone]
        self.model.acknowledged += len(gone)

    @rule()
    def requeue_expired(self) -> None:
        assert self.queue.requeue_expired() == self.model.expire(self.now)

    @rule()
    def requeue_dead(self) -> None:
        dead = [item for item in self.model.items if item.status == "dead"]
        assert self.queue.requeue_dead() == len(dead)
        for item in dead:
            item.status, item.attempts, item.available_at = "pending", 0, self.now

    @rule(status=st.sampled_from(["pending", "claimed", "dead"]))
    def purge(self, status: str) -> None:
        gone = [item for item in self.model.items if item.status == status]
        assert self.queue.purge(status) == len(gone)
        self.model.items = [item for item in self.model.items if item.status != status]
        self.model.purged += len(gone)

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        with self.queue.opened():
            items, stats, bookmark = self.queue.peek(None), self.queue.stats(), self.queue.bookmark("b")
        shown = [(item.id, item.status, item.attempts, item.lease_until) for item in items]
        assert shown == [(item.id, item.status, item.attempts, item.lease_until) for item in self.model.items]
        counted = (stats.added, stats.acknowledged, stats.purged)
        assert counted == (self.model.added, self.model.acknowledged, self.model.purged)
        assert stats.pending + stats.claimed + stats.dead == len(self.model.items)
        assert bookmark == self.model.bookmark

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


@pytest.mark.usefixtures("queue_place")
def test_a_queue_does_what_the_model_says() -> None:
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(max_examples=15, stateful_step_count=25, suppress_health_check=list(HealthCheck)),
    )
