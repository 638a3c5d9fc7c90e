"""Where a run's events go: a queue, which also remembers where to go on. What is no event goes to quarantine."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from jetstream_pipeline.events.identity import identities
from jetstream_pipeline.events.record import JetstreamRecord, payloads
from jetstream_pipeline.jetstream.client import Batch
from jetstream_pipeline.jetstream.recent import Position
from jetstream_pipeline.jetstream.resumption import HOST_SKEW_US
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, keep, quarantined
from jetstream_pipeline.storage.queue.queue import Queue

_MAX_WAIT_SEC = 1.0
"""How long an event waits for its transaction to fill up."""


class Bookmark(BaseModel):
    """Where a stream into a queue stands."""

    model_config = ConfigDict(frozen=True)

    run: str
    """One subscription read from beginning to end, however many processes it takes: what is stored once in it."""
    start_us: int
    """The time of its first event."""
    position_us: int
    """How far it has come. Both in unix microseconds."""

    @property
    def cursor(self) -> int:
        """From here on nothing is missed, whichever host serves; what comes again is recognised."""
        return max(self.position_us - HOST_SKEW_US, self.start_us)

    @classmethod
    def read(cls, queue: Queue, subscription: Subscription) -> Bookmark | None:
        """What the last run of this subscription left in the queue."""
        text = queue.bookmark(_bookmark_name(subscription))
        try:
            return None if text is None else cls.model_validate_json(text)
        except ValidationError:
            return None


def _bookmark_name(subscription: Subscription) -> str:
    return f"stream:{subscription.fingerprint}"


@dataclass
class QueueSink:
    """Adds events to a queue, `batch_size` in one transaction, each once in a run."""

    queue: Queue
    subscription: Subscription
    batch_size: int
    resumed: Bookmark | None = None
    stored: int = 0
    _payloads: list[str] = field(default_factory=list)
    _keys: list[str] = field(default_factory=list)
    _times: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = self.resumed.run if self.resumed else uuid.uuid4().hex
        self._start_us = self.resumed.start_us if self.resumed else None
        self._position = Position()
        self._waiting_since: float | None = None

    def only_new(self, batch: Batch) -> Batch:
        """Without what an earlier process of the same run has stored."""
        times = batch.events["time_us"]
        if not self.resumed or not len(times) or pc.min(times).as_py() > self.resumed.position_us + HOST_SKEW_US:
            return batch
        return batch.filtered(pa.array(self.queue.unknown(self._keys_of(batch)), pa.bool_()))

    def _keys_of(self, batch: Batch) -> list[str]:
        return [f"{self.run}{identity}" for identity in identities(batch.events).to_pylist()]

    def take(self, batch: Batch) -> None:
        self._payloads += payloads(batch.events)
        self._keys += self._keys_of(batch)
        self._times += batch.events["time_us"].to_pylist()
        with self.queue.opened():
            while len(self._payloads) >= self.batch_size:
                self._store(self.batch_size)
        now = time.monotonic()
        if not self._payloads:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since >= _MAX_WAIT_SEC:
            self.flush()

    def flush(self) -> None:
        if self._payloads:
            self._store(len(self._payloads))
            self._waiting_since = None

    def _store(self, number: int) -> None:
        self._position.add(pa.array(self._times[:number], pa.int64()))
        if self._start_us is None:
            self._start_us = self._times[0]
        position_us = max(self.resumed.position_us if self.resumed else 0, self._position.time_us)
        bookmark = Bookmark(run=self.run, start_us=self._start_us, position_us=position_us)
        self.stored += self.queue.batch_add_items_to_queue(
            self._payloads[:number],
            keys=self._keys[:number],
            bookmark=(_bookmark_name(self.subscription), bookmark.model_dump_json()),
        )
        del self._payloads[:number], self._keys[:number], self._times[:number]


class QuarantineSink:
    """Keeps messages that are no events, byte for byte."""

    def __init__(self, data: DataDirectory, name: str) -> None:
        self._folder = data.quarantine_folder(name)
        self._position_us = 0
        self.kept = 0

    def take(self, batch: Batch) -> None:
        times = [self._position_us, *batch.events["time_us"].to_pylist()]
        self._position_us = times[-1]
        if batch.rejected:
            messages = [Unreadable(one.message, one.reason, times[one.after]) for one in batch.rejected]
            self._keep(messages, batch.host, batch.wire)

    def readable(self, batch: Batch) -> Iterator[JetstreamRecord]:
        """A batch's events for Python; one that only JSON can hold (nested without end) is kept instead."""
        for text, time_us in zip(payloads(batch.events), batch.events["time_us"].to_pylist(), strict=True):
            try:
                record = JetstreamRecord.from_json(text)
            except ValueError as error:
                reason = " ".join(str(error).split())
                self._keep([Unreadable(text.encode(), reason, time_us)], batch.host, None)
            else:
                yield record

    def _keep(self, messages: list[Unreadable], host: str, wire: str | None) -> None:
        now = datetime.now(UTC)
        keep(quarantined(messages, received_at=now, host=host, wire=wire), self._folder, now)
        self.kept += len(messages)
