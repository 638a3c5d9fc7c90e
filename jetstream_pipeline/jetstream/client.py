"""A stream that outlives its connections: resumed with a rewind, repeats dropped, decoded and filtered.

Knows nothing of windows or files: it starts at a cursor and goes on until the caller has enough.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected, decode
from jetstream_pipeline.jetstream.connection import Connection, connected
from jetstream_pipeline.jetstream.errors import JetstreamError, Refused
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.recent import Recent, digests
from jetstream_pipeline.jetstream.subscription import Subscription

REWIND_US = 5_000_000
_MAX_FAILURES = 6
_MAX_FIRST_FAILURES = 4
"""Fewer before anything has come: a wrong address should be told soon."""
_FIRST_PAUSE_SEC = 0.2
_MAX_PAUSE_SEC = 10.0
_TICK_SEC = 1.0
_CLOCK_SLACK_SEC = 3600.0
"""How far a host's clock may run ahead of ours before its times are taken for errors."""


@dataclass(frozen=True)
class Batch:
    """What came since the last one: new events in stream order, messages that are none, seconds of silence so far.

    A message's `after` counts the events of this batch before it.
    """

    events: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    host: str
    silence: float


@dataclass
class StreamClient:
    """Reads one subscription from the first host that serves it, across cuts."""

    hosts: Sequence[Host]
    subscription: Subscription
    on_ending: Callable[[str], None] | None = None
    """Told each time that a connection ends or cannot be made."""
    endings: list[str] = field(default_factory=list)
    """Why each connection ended, in order."""
    repeats: int = 0

    def __post_init__(self) -> None:
        self._recent = Recent(2 * REWIND_US)
        self._serving: Host | None = None
        self._silence = 0.0
        self._failures = 0

    async def batches(self, cursor: int) -> AsyncIterator[Batch]:
        """New events from `cursor` (unix microseconds) on, for as long as the caller asks.

        Stays on the first host that sends something new, since another one's times differ. Refused where every host
        refuses, JetstreamError where none can be reached or none gets any further.
        """
        while True:
            start = max(cursor, self._recent.position - REWIND_US)
            candidates = [self._serving] if self._serving else list(self.hosts)
            errors: list[JetstreamError | Refused] = []
            for host in candidates:
                try:
                    async with connected(host, self.subscription.url(host.address, start)) as connection:
                        async for batch in self._read(connection, host, start):
                            yield batch
                        self._end(f"{host.name}: {connection.ended}")
                    if self._serving:
                        break
                except (JetstreamError, Refused) as error:
                    self._end(f"{host.name}: {error}")
                    errors.append(error)
            if len(errors) == len(candidates) and all(isinstance(error, Refused) for error in errors):
                raise errors[0]
            if self._failures >= (_MAX_FAILURES if self._serving else _MAX_FIRST_FAILURES):
                raise errors[-1] if errors else JetstreamError(self._fruitless())
            await self._pause()

    def _fruitless(self) -> str:
        return f"{self._failures} connections brought nothing new (the last: {self.endings[-1]}); try another host"

    def _end(self, ending: str) -> None:
        self.endings.append(ending)
        if self.on_ending:
            self.on_ending(ending)

    async def _read(self, connection: Connection, host: Host, start: int) -> AsyncIterator[Batch]:
        """What is new on one connection. Events before the first one at or after `start` are left out: newer servers
        begin up to an hour early where a timestamp falls into what they have not sealed yet."""
        known_rejected = self._recent.rejected()
        begun = False
        while True:
            messages = await connection.receive(_TICK_SEC)
            if not messages and connection.ended is not None:
                return
            latest_us = int((time.time() + _CLOCK_SLACK_SEC) * 1_000_000)
            decoded = await asyncio.to_thread(decode, messages, host.name, latest_us)
            events, rejected = decoded.events, decoded.rejected
            if not begun:
                first = pc.index(pc.greater_equal(events["time_us"], start), True).as_py()
                begun = first >= 0
                events, rejected = _from(first if begun else events.num_rows, events, rejected)
            repeats = self.repeats
            kept, rejected = self._kept(events, rejected, known_rejected)
            if events.num_rows > self.repeats - repeats or rejected:
                self._failures = 0
                self._serving = host
            self._silence = 0.0 if messages else self._silence + _TICK_SEC
            yield Batch(kept, rejected, host.name, self._silence)

    def _kept(
        self, events: pa.RecordBatch, rejected: tuple[Rejected, ...], known_rejected: set[bytes]
    ) -> tuple[pa.RecordBatch, tuple[Rejected, ...]]:
        """What is new, and passes the filter also on our side."""
        fresh = self._recent.fresh(events)
        self.repeats += fresh.count(False)
        keep = pc.and_(pa.array(fresh, pa.bool_()), self.subscription.mask(events))
        if rejected:
            digested = zip(rejected, digests(rejected), strict=True)
            rejected = tuple(message for message, digest in digested if digest not in known_rejected)
            self._recent.reject(rejected)
            before = [0, *accumulate(keep.to_pylist())]
            rejected = tuple(replace(message, after=before[message.after]) for message in rejected)
        return events.filter(keep), rejected

    async def _pause(self) -> None:
        """At once while there is progress; growing and jittered when there is none."""
        if self._failures:
            pause = min(_FIRST_PAUSE_SEC * 2 ** (self._failures - 1), _MAX_PAUSE_SEC)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        self._failures += 1


def _from(
    first: int, events: pa.RecordBatch, rejected: Sequence[Rejected]
) -> tuple[pa.RecordBatch, tuple[Rejected, ...]]:
    """The part of a batch from its `first` event on; all of its rejected messages that do not lie before that."""
    later = (replace(message, after=message.after - first) for message in rejected if message.after >= first)
    return events.slice(first), tuple(later)
