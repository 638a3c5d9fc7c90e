"""The queue by which other programs consume records: claimed, acknowledged or failed, one transaction at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue import statements as sql
from jetstream_pipeline.storage.queue.file import QueueFile
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

_LEASE_RAN_OUT = "its lease ran out"
_MOST = 2**63 - 1
"""Items that DuckDB can be asked for."""

Lease = timedelta | float
"""A span of time; a number is seconds."""


class Queue:
    """A named queue in a DuckDB file of its own, for any number of processes and threads.

    An item is pending, then claimed by one consumer until its lease ends, then acknowledged (gone) or failed: pending
    again, or dead after `max_attempts` claims. Every call is one transaction: done when it returns, whatever happens to
    the process, and not done at all where it raises. QueueBusy where others hold the queue for longer than `patience`,
    StorageError where its file cannot be used.
    """

    def __init__(
        self,
        queue_name: str,
        create_new_queue: bool = False,
        *,
        data_dir: Path | str | None = None,
        max_attempts: int = 5,
        patience: float = 30.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Open a queue; with `create_new_queue`, make it if it is missing. `data_dir`: default `JETSTREAM_DATA_DIR`.
        `patience`: seconds to wait for others. InvalidInput where it is missing, or the name is none."""
        if max_attempts < 1:
            raise InvalidInput(f"max_attempts={max_attempts}: an item is claimed at least once")
        data = DataDirectory(Path(data_dir) if data_dir else Settings.read().data_dir)
        self.name = check_name(queue_name, "queue")
        self.path = data.queues / f"{self.name}.duckdb"
        self._max_attempts = max_attempts
        self._clock = clock
        self._file = QueueFile(self.path, patience)
        if create_new_queue:
            self._file.create(sql.SCHEMA)
        elif not self.path.exists():
            known = ", ".join(queues(data.root)) or "none"
            raise InvalidInput(f"there is no queue {self.name} in {data.queues}; there: {known}")

    def add(self, payload: Payload, metadata: dict[str, Any] | None = None, *, key: str | None = None) -> int | None:
        """Add one item and return its id; None where an item with this `key` was added before."""
        with self._file.opened() as connection:
            added = self.batch_add_items_to_queue([payload], metadata, keys=None if key is None else [key])
            return sql.last_id(connection) if added else None

    def batch_add_items_to_queue(
        self,
        items: Iterable[Payload],
        metadata: dict[str, Any] | None = None,
        *,
        keys: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        bookmark: tuple[str, str] | None = None,
    ) -> int:
        """Add items (JSON text, or what becomes it), in order; how many were new.

        `metadata` goes with each item. `idempotency_key`: a batch with this key is added once, ever. `keys`, one for
        each item: an item whose key is among the last 200,000 is not added again, be it acknowledged or not.
        `bookmark`: a name and a text stored together with the batch, even where nothing was new; see `bookmark`.
        InvalidInput where an item is not JSON; then nothing is added.
        """
        payloads, described = texts(items), metadata_text(metadata)
        if isinstance(keys, str):
            raise InvalidInput("give a list of keys, one for each item")
        if keys is not None and len(keys) != len(payloads):
            raise InvalidInput(f"{len(keys)} keys for {len(payloads)} items: give one for each")
        mark = bookmark and (stored_text(bookmark[0], "bookmark's name"), stored_text(bookmark[1], "bookmark"))
        with self._file.transaction() as connection:
            if idempotency_key is not None and not sql.first_time(connection, idempotency_key):
                payloads = []
            elif keys is not None:
                payloads = [payloads[number] for number in sql.remember(connection, keys)]
            if payloads:
                sql.insert(connection, payloads, described, self._now())
            if mark:
                sql.set_bookmark(connection, *mark)
        return len(payloads)

    def bookmark(self, name: str) -> str | None:
        """The text that was last stored under a name, together with the batch that it belongs to."""
        with self._file.opened() as connection:
            return sql.bookmark(connection, stored_text(name, "bookmark's name"))

    def unknown(self, keys: Sequence[str]) -> list[bool]:
        """Which keys are not among those remembered."""
        with self._file.opened() as connection:
            known = sql.known(connection, keys)
        return [number not in known for number in range(len(keys))]

    @contextmanager
    def opened(self) -> Iterator[Queue]:
        """Keep the queue open for the calls inside, each still a transaction of its own. Others wait meanwhile."""
        with self._file.kept_open():
            yield self

    def batch_remove_items_from_queue(self, limit: int | None = None) -> list[QueueItem]:
        """Take the oldest pending items out for good, in order: for consumers that can afford to lose them."""
        with self._file.transaction() as connection:
            items = sql.take(connection, _checked(limit), self._now())
            sql.count(connection, acknowledged=len(items))
        return items

    def claim(self, limit: int | None = 100, lease: Lease = 60.0) -> list[QueueItem]:
        """The oldest items that are free, now this consumer's until the lease ends.

        An item whose lease ran out is free again, unless that was its last attempt.
        """
        token = uuid.uuid4().hex
        with self._file.transaction() as connection:
            self._free_expired(connection)
            return sql.claim(connection, _checked(limit), self._now(), token, self._after(lease))

    def ack(self, items: QueueItem | Iterable[QueueItem]) -> list[QueueItem]:
        """Done with these: they leave the queue. Returns those that were no longer this consumer's, untouched."""
        items = _listed(items)
        with self._file.transaction() as connection:
            sql.choose(connection, items)
            ours = sql.delete(connection, sql.CHOSEN)
            sql.count(connection, acknowledged=len(ours))
        return [item for item in items if item.id not in ours]

    def fail(self, items: QueueItem | Iterable[QueueItem], reason: str, retry_in: float = 0.0) -> list[QueueItem]:
        """Not done with these: pending again after `retry_in` seconds, or dead with the reason after the last attempt.

        Returns those that were no longer this consumer's, untouched.
        """
        items = _listed(items)
        with self._file.transaction() as connection:
            sql.choose(connection, items)
            available_at = self._after(retry_in) if retry_in else None
            ours = sql.release(connection, sql.CHOSEN, self._max_attempts, readable(reason), available_at)
        return [item for item in items if item.id not in ours]

    def release(self, items: QueueItem | Iterable[QueueItem]) -> list[QueueItem]:
        """Not begun with these: pending again, as if never claimed. Returns those that were not this consumer's."""
        items = _listed(items)
        with self._file.transaction() as connection:
            sql.choose(connection, items)
            ours = sql.unclaim(connection)
        return [item for item in items if item.id not in ours]

    def extend(self, items: QueueItem | Iterable[QueueItem], lease: Lease = 60.0) -> list[QueueItem]:
        """This consumer's for another lease, from now on. Returns those that were no longer."""
        items = _listed(items)
        with self._file.transaction() as connection:
            sql.choose(connection, items)
            ours = sql.extend(connection, self._after(lease))
        return [item for item in items if item.id not in ours]

    def requeue_expired(self) -> int:
        """Free the items whose lease has run out (`claim` does so itself); how many there were."""
        with self._file.transaction() as connection:
            return self._free_expired(connection)

    def requeue_dead(self) -> int:
        """Give the dead items all their attempts again; how many there were."""
        with self._file.transaction() as connection:
            return sql.revive(connection)

    def peek(self, limit: int | None = 10, status: Status | str | None = None) -> list[QueueItem]:
        """The oldest items, of one status or all, left as they are."""
        with self._file.opened() as connection:
            if status is None:
                return sql.read(connection, "true", _checked(limit))
            return sql.read(connection, "status = $status", _checked(limit), status=_status(status))

    def purge(self, status: Status | str | None = None) -> int:
        """Delete all items, or those of one status; how many there were."""
        with self._file.transaction() as connection:
            if status is None:
                gone = sql.delete(connection, "true")
            else:
                gone = sql.delete(connection, "status = $status", status=_status(status))
            sql.count(connection, purged=len(gone))
        return len(gone)

    def stats(self) -> QueueStats:
        with self._file.opened() as connection:
            figures = sql.figures(connection, self._now())
        return QueueStats(**figures, size_bytes=self.path.stat().st_size)

    def __len__(self) -> int:
        """Items that wait to be claimed."""
        return self.stats().pending

    def __bool__(self) -> bool:
        return True

    def _now(self) -> datetime:
        return self._clock().astimezone(UTC).replace(tzinfo=None)

    def _after(self, span: Lease) -> datetime:
        try:
            return self._now() + (span if isinstance(span, timedelta) else timedelta(seconds=span))
        except (ValueError, OverflowError):
            raise InvalidInput(f"{span} is not a span of time; write seconds, or a timedelta") from None

    def _free_expired(self, connection: sql.Connection) -> int:
        return len(sql.release(connection, sql.EXPIRED, self._max_attempts, _LEASE_RAN_OUT, now=self._now()))


def queues(data_dir: Path | str) -> list[str]:
    """The names of the queues in a data directory; other files there are none."""
    return sorted(path.stem for path in DataDirectory(Path(data_dir)).queues.glob("*.duckdb") if _is_name(path.stem))


def _is_name(text: str) -> bool:
    try:
        return bool(check_name(text, "queue"))
    except InvalidInput:
        return False


def _checked(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        raise InvalidInput(f"limit={limit}: write how many items, or None for all")
    return None if limit is None else min(limit, _MOST)


def _status(status: Status | str) -> str:
    try:
        return Status(status).value
    except ValueError:
        raise InvalidInput(f"{status!r} is not a status; write {', '.join(Status)}") from None


def _listed(items: QueueItem | Iterable[QueueItem]) -> list[QueueItem]:
    return [items] if isinstance(items, QueueItem) else list(items)
