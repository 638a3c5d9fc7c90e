"""The queue by which other programs consume records: claimed, acknowledged or failed, one transaction at a time.

Where its rows are and how they are changed belongs to `store`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.queue.items import (
    Payload,
    QueueItem,
    QueueStats,
    Status,
    metadata_text,
    readable,
    stored_text,
    texts,
)
from jetstream_pipeline.storage.queue.places import place
from jetstream_pipeline.storage.queue.store import Companion, Release, Rows

_LEASE_RAN_OUT = "its lease ran out"
_MOST = 2**63 - 1
"""Items that a database can be asked for."""

Lease = timedelta | float
"""A span of time; a number is seconds."""


class BookmarkMoved(StorageError):
    """A bookmark is not where it was thought to be: others have added since, or the queue is another one."""

    passing = True


class Queue:
    """A named queue for any number of processes and threads: in a DuckDB file of its own, or, for programs on several
    machines, in the PostgreSQL database that `JETSTREAM_QUEUES` names.

    An item is pending, then claimed by one consumer until its lease ends, then acknowledged (gone) or failed: pending
    again, or dead after `max_attempts` claims. Every call is one transaction: done when it returns, whatever happens to
    the process, and not done at all where it raises. QueueBusy where others hold the queue for longer than `patience`,
    StorageError where its file or database cannot be used; one that is away for a moment is waited for.
    """

    def __init__(
        self,
        queue_name: str,
        create_new_queue: bool = False,
        *,
        data_dir: Path | str | None = None,
        max_attempts: int = 5,
        patience: float = 30.0,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Open a queue; with `create_new_queue`, make it if it is missing. `data_dir`: default `JETSTREAM_DATA_DIR`.
        `patience`: seconds to wait for others. `clock`: default this machine's for a file, the server's for a database.
        InvalidInput where the queue is missing, or the name is none."""
        if max_attempts < 1:
            raise InvalidInput(f"max_attempts={max_attempts}: an item is claimed at least once")
        self.name = check_name(queue_name, "queue")
        self._max_attempts = max_attempts
        where = place(data_dir)
        self._store = where.store(self.name, patience, clock)
        self.path = self._store.path
        self.location = self._store.location
        if create_new_queue:
            self._store.create()
        elif not self._store.exists():
            known = ", ".join(where.names(patience)) or "none"
            raise InvalidInput(f"there is no queue {self.name} in {where}; there: {known}")

    def add(self, payload: Payload, metadata: dict[str, Any] | None = None, *, key: str | None = None) -> int | None:
        """Add one item and return its id; None where an item with this `key` was added before."""
        payloads, described = texts([payload]), metadata_text(metadata)

        def work(rows: Rows) -> int | None:
            known = key is not None and not rows.remember([key])
            return None if known else rows.insert(payloads, described)

        return self._store.write(work, adds=True)

    def batch_add_items_to_queue(
        self,
        items: Iterable[Payload],
        metadata: dict[str, Any] | None = None,
        *,
        keys: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        bookmark: tuple[str, str] | None = None,
        if_bookmark: tuple[str, str | None] | None = None,
    ) -> int:
        """Add items (JSON text, or what becomes it), in order; how many were new.

        `metadata` goes with each item. `idempotency_key`: a batch with this key is added once, ever. `keys`, one for
        each item: an item whose key is among the last 200,000 is not added again, be it acknowledged or not.
        `bookmark`: a name and a text stored together with the batch, even where nothing was new; see `bookmark`.
        `if_bookmark`: a name and the text that must stand there (None: nothing); else BookmarkMoved, which passes.
        InvalidInput where an item is not JSON. Where it raises nothing is added.
        """
        payloads, described = texts(items), metadata_text(metadata)
        if isinstance(keys, str):
            raise InvalidInput("give a list of keys, one for each item")
        if keys is not None and len(keys) != len(payloads):
            raise InvalidInput(f"{len(keys)} keys for {len(payloads)} items: give one for each")
        mark = bookmark and (stored_text(bookmark[0], "bookmark's name"), stored_text(bookmark[1], "bookmark"))

        def work(rows: Rows) -> int:
            if if_bookmark and rows.bookmark(if_bookmark[0]) != if_bookmark[1]:
                raise BookmarkMoved(f"the bookmark {if_bookmark[0]} of the queue {self.name} has moved; read it again")
            new = payloads
            if idempotency_key is not None and not rows.first_time(idempotency_key):
                new = []
            elif keys is not None:
                new = [payloads[number] for number in rows.remember(keys)]
            if new:
                rows.insert(new, described)
            if mark:
                rows.set_bookmark(*mark)
            return len(new)

        return self._store.write(work, adds=True)

    def bookmark(self, name: str) -> str | None:
        """The text that was last stored under a name, together with the batch that it belongs to."""
        checked = stored_text(name, "bookmark's name")
        return self._store.read(lambda rows: rows.bookmark(checked))

    def unknown(self, keys: Sequence[str]) -> list[bool]:
        """Which keys are not among those remembered."""
        known = self._store.read(lambda rows: rows.known(keys))
        return [number not in known for number in range(len(keys))]

    @contextmanager
    def opened(self) -> Iterator[Queue]:
        """Keep the queue open for the calls inside, each still a transaction of its own. Others wait for a file
        meanwhile."""
        with self._store.opened():
            yield self

    def companion(self, name: str) -> Companion:
        """A file that is kept where the queue is, and a lock that goes with it. `name`: a relative path."""
        return self._store.companion(name)

    def batch_remove_items_from_queue(self, limit: int | None = None) -> list[QueueItem]:
        """Take the oldest pending items out for good, in order: for consumers that can afford to lose them."""
        checked = _checked(limit)
        return self._store.write(lambda rows: rows.take(checked))

    def claim(self, limit: int | None = 100, lease: Lease = 60.0) -> list[QueueItem]:
        """The oldest items that are free, now this consumer's until the lease ends.

        An item whose lease ran out is free again, unless that was its last attempt.
        """
        checked, token = _checked(limit), uuid.uuid4().hex

        def work(rows: Rows) -> list[QueueItem]:
            rows.release_expired(self._expiry)
            return rows.claim(checked, token, _after(rows.now, lease))

        return self._store.write(work)

    def ack(self, items: QueueItem | Iterable[QueueItem]) -> list[QueueItem]:
        """Done with these: they leave the queue. Returns those that were no longer this consumer's, untouched."""
        return self._lost(items, lambda rows, listed: rows.acknowledge(listed))

    def fail(self, items: QueueItem | Iterable[QueueItem], reason: str, retry_in: float = 0.0) -> list[QueueItem]:
        """Not done with these: pending again after `retry_in` seconds, or dead with the reason after the last attempt.

        Returns those that were no longer this consumer's, untouched.
        """

        def work(rows: Rows, listed: list[QueueItem]) -> set[int]:
            available_at = _after(rows.now, retry_in) if retry_in else None
            return rows.release(listed, Release(self._max_attempts, readable(reason), available_at))

        return self._lost(items, work)

    def release(self, items: QueueItem | Iterable[QueueItem]) -> list[QueueItem]:
        """Not begun with these: pending again, as if never claimed. Returns those that were not this consumer's."""
        return self._lost(items, lambda rows, listed: rows.unclaim(listed))

    def extend(self, items: QueueItem | Iterable[QueueItem], lease: Lease = 60.0) -> list[QueueItem]:
        """This consumer's for another lease, from now on. Returns those that were no longer."""
        return self._lost(items, lambda rows, listed: rows.extend(listed, _after(rows.now, lease)))

    def _lost(
        self, items: QueueItem | Iterable[QueueItem], work: Callable[[Rows, list[QueueItem]], set[int]]
    ) -> list[QueueItem]:
        listed = [items] if isinstance(items, QueueItem) else list(items)
        ours = self._store.write(lambda rows: work(rows, listed))
        return [item for item in listed if item.id not in ours]

    def requeue_expired(self) -> int:
        """Free the items whose lease has run out (`claim` does so itself); how many there were."""
        return self._store.write(lambda rows: rows.release_expired(self._expiry))

    def requeue_dead(self) -> int:
        """Give the dead items all their attempts again; how many there were."""
        return self._store.write(lambda rows: rows.revive())

    def peek(self, limit: int | None = 10, status: Status | str | None = None) -> list[QueueItem]:
        """The oldest items, of one status or all, left as they are."""
        checked, wanted = _checked(limit), _status(status)
        return self._store.read(lambda rows: rows.read(wanted, checked))

    def purge(self, status: Status | str | None = None) -> int:
        """Delete all items, or those of one status; how many there were."""
        wanted = _status(status)
        return self._store.write(lambda rows: rows.purge(wanted))

    def stats(self) -> QueueStats:
        return self._store.read(lambda rows: rows.stats())

    def __len__(self) -> int:
        """Items that wait to be claimed."""
        return self.stats().pending

    def __bool__(self) -> bool:
        return True

    @property
    def _expiry(self) -> Release:
        return Release(self._max_attempts, _LEASE_RAN_OUT)


def queues(data_dir: Path | str | None = None, patience: float = 30.0) -> list[str]:
    """The names of the queues, in a data directory or in the database that `JETSTREAM_QUEUES` names."""
    return place(data_dir).names(patience)


def location(queue_name: str, data_dir: Path | str | None = None) -> str:
    """Where a queue is or would be, for people."""
    return place(data_dir).store(check_name(queue_name, "queue"), patience=0).location


def _after(now: datetime, span: Lease) -> datetime:
    try:
        return now + (span if isinstance(span, timedelta) else timedelta(seconds=span))
    except (ValueError, OverflowError):
        raise InvalidInput(f"{span} is not a span of time; write seconds, or a timedelta") from None


def _checked(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        raise InvalidInput(f"limit={limit}: write how many items, or None for all")
    return None if limit is None else min(limit, _MOST)


def _status(status: Status | str | None) -> str | None:
    try:
        return None if status is None else Status(status).value
    except ValueError:
        raise InvalidInput(f"{status!r} is not a status; write {', '.join(Status)}") from None
