"""A stream that outlives its connections: resumed with a rewind, repeats dropped, decoded and filtered.

Knows nothing of windows or files: it starts at a cursor and goes on until the caller has enough.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected, decode
from jetstream_pipeline.jetstream.connection import Connection, connected
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription

REWIND_US = 5_000_000
_MAX_FAILURES = 6
_FIRST_PAUSE_SEC = 0.2
_MAX_PAUSE_SEC = 10.0
_TICK_SEC = 1.0

Identity = tuple[object, ...]


@dataclass(frozen=True)
class Batch:
    """What came since the last one: new events in stream order, messages that are none, seconds of silence so far."""

    events: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    host: str
    silence: float


class Recent:
    """The last stretch of a stream, so that what a rewind delivers again is known by its identity."""

    def __init__(self, span_us: int) -> None:
        self._span_us = span_us
        self._batches: deque[tuple[int, pa.RecordBatch, tuple[Rejected, ...]]] = deque()
        self.position = 0
        """The latest time seen, in unix microseconds: it never steps back."""

    def add(self, events: pa.RecordBatch, rejected: tuple[Rejected, ...]) -> None:
        if events.num_rows:
            self.position = max(self.position, pc.max(events["time_us"]).as_py())
        self._batches.append((self.position, events, rejected))
        while self._batches[0][0] < self.position - self._span_us:
            self._batches.popleft()

    def identities(self) -> set[Identity]:
        return {identity for _, events, _ in self._batches for identity in identities(events)}

    def rejected(self) -> set[bytes]:
        return {message.message for _, _, rejected in self._batches for message in rejected}


def identities(events: pa.RecordBatch) -> list[Identity]:
    """What makes each event itself, on any host: see the design's "Identity and order"."""
    names = ("did", "kind", "rev", "collection", "rkey", "operation", "payload")
    return list(zip(*(events[name].to_pylist() for name in names), strict=True))


@dataclass
class StreamClient:
    """Reads one subscription from the first host that serves it, across cuts."""

    hosts: Sequence[Host]
    subscription: Subscription
    endings: list[str] = field(default_factory=list)
    """Why each connection ended, in order."""
    repeats: int = 0

    def __post_init__(self) -> None:
        self._recent = Recent(2 * REWIND_US)
        self._failures = 0

    async def batches(self, cursor: int) -> AsyncIterator[Batch]:
        """New events from `cursor` (unix microseconds) on, for as long as the caller asks.

        Stays on the first host that answers, since another one's times differ. Refused, or JetstreamError when the
        host cannot be reached again.
        """
        host = None
        while True:
            start = max(cursor, self._recent.position - REWIND_US)
            candidates = [host] if host else list(self.hosts)
            for candidate in candidates:
                try:
                    async with connected(candidate, self.subscription.url(candidate.address, start)) as connection:
                        host = candidate
                        async for batch in self._read(connection, candidate):
                            yield batch
                        self.endings.append(f"{candidate.name}: {connection.ended}")
                    break
                except JetstreamError as error:
                    self.endings.append(f"{candidate.name}: {error}")
                    if self._failures >= _MAX_FAILURES and candidate is candidates[-1]:
                        raise
            await self._pause()

    async def _read(self, connection: Connection, host: Host) -> AsyncIterator[Batch]:
        known, known_rejected = self._recent.identities(), self._recent.rejected()
        resumed_at = self._recent.position
        silence = 0.0
        while True:
            messages = await connection.receive(_TICK_SEC)
            if not messages and connection.ended is not None:
                return
            decoded = await asyncio.to_thread(decode, messages, host.name)
            events = decoded.events
            rejected = decoded.rejected
            if known or known_rejected:
                events, rejected = self._new(events, rejected, known, known_rejected)
                latest = pc.max(decoded.events["time_us"]).as_py() if decoded.events.num_rows else 0
                if latest > resumed_at + REWIND_US:
                    known, known_rejected = set(), set()
            events = events.filter(self.subscription.mask(events))
            silence = 0.0 if messages else silence + _TICK_SEC
            if events.num_rows or rejected:
                self._failures = 0
                self._recent.add(events, rejected)
            yield Batch(events, rejected, host.name, silence)

    def _new(
        self, events: pa.RecordBatch, rejected: tuple[Rejected, ...], known: set[Identity], known_rejected: set[bytes]
    ) -> tuple[pa.RecordBatch, tuple[Rejected, ...]]:
        fresh = [identity not in known for identity in identities(events)]
        self.repeats += fresh.count(False)
        new_rejected = tuple(message for message in rejected if message.message not in known_rejected)
        return events.filter(pa.array(fresh, pa.bool_())), new_rejected

    async def _pause(self) -> None:
        """At once while there is progress; growing and jittered when there is none."""
        if self._failures:
            pause = min(_FIRST_PAUSE_SEC * 2 ** (self._failures - 1), _MAX_PAUSE_SEC)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        self._failures += 1
