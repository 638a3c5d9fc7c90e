"""A stream that outlives its connections and its hosts: resumed, repeats dropped, decoded and filtered.

Knows nothing of windows or files: it starts at a cursor and goes on until the caller has enough.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Decoded, Rejected, decode
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.errors import Busy, CursorTooOld, JetstreamError, NotOffered, Refused
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.recent import digests
from jetstream_pipeline.jetstream.resumption import REWIND_US, Opening, OtherNumbers, Resumption
from jetstream_pipeline.jetstream.server import Options, Server
from jetstream_pipeline.jetstream.subscription import Subscription

_MAX_ROUNDS = 6
_MAX_FIRST_ROUNDS = 4
"""Fewer before any host was reached: a wrong address should be told soon."""
_MAX_BUSY_ROUNDS = 10
_FIRST_PAUSE_SEC = 0.2
_MAX_PAUSE_SEC = 10.0
_TICK_SEC = 1.0
_FIRST_STALL_SEC = 30.0
_MAX_STALL_SEC = 1920.0
"""A host may scan for as long as this before it comes to an event that a narrow filter lets through."""
_CLOCK_SLACK_US = 3_600_000_000
"""How far a host's clock may run ahead of ours before its times are taken for errors."""
_ENDINGS_KEPT = 200
_NOTHING = pa.RecordBatch.from_pylist([], EVENT_SCHEMA)


@dataclass(frozen=True)
class Batch:
    """What came since the last one: new events in stream order, messages that are none, seconds of silence so far.

    A message's `after` counts the events of this batch before it.
    """

    events: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    host: str
    wire: Wire
    silence: float

    def filtered(self, keep: Sequence[bool]) -> Batch:
        """The batch with only these of its events; its other messages stay between the same ones."""
        before = [0, *accumulate(keep)]
        rejected = tuple(replace(message, after=before[message.after]) for message in self.rejected)
        return replace(self, events=self.events.filter(pa.array(keep, pa.bool_())), rejected=rejected)


class _Stalled(JetstreamError):
    """A connection stays open and silent for so long that it is doubted."""

    def __init__(self, host: Host, seconds: float, alive: bool) -> None:
        self.alive = alive
        others = "though it sends to others" if alive else "not even without a filter"
        super().__init__(f"{host.name} sent nothing for {seconds:g} s, {others}")


@dataclass
class StreamClient:
    """Reads one subscription from the first host that serves it, across cuts, on the next host when one fails."""

    hosts: Sequence[Host]
    subscription: Subscription
    options: Options = field(default_factory=Options)
    on_note: Callable[[str], None] | None = None
    """Told each time that a connection ends, cannot be made, or is not all that was asked for."""
    persistent: bool = False
    """Go on for ever once a host was reached; otherwise a stream that gets no further ends with an error."""

    def __post_init__(self) -> None:
        self.stall_sec = _FIRST_STALL_SEC
        """Silence after which an open connection is doubted: doubled each time that the host is alive, halved when
        events come."""
        self.endings: deque[str] = deque(maxlen=_ENDINGS_KEPT)
        """Why the last connections ended, in order."""
        self.connections = 0
        self.repeats = 0
        self.messages_received = 0
        self.bytes_received = 0
        self._servers = [Server(host, self.subscription, self.options, self._note) for host in self.hosts]
        self._turn = 0
        self._failures = 0
        self._progress = 0
        self._silence = 0.0

    async def batches(self, cursor: int | None) -> AsyncGenerator[Batch, None]:
        """New events from `cursor` on (unix microseconds; a sequence number of the first host; None: the live tip),
        for as long as the caller asks.

        Refused where every host refuses, JetstreamError where none can be reached or none gets any further.
        """
        resumption = Resumption(cursor)
        while True:
            server, progress = self._servers[self._turn], self._progress
            try:
                async with aclosing(self._read(server, resumption)) as reading:
                    async for batch in reading:
                        yield batch
                error: JetstreamError | Refused = JetstreamError(f"{self.endings[-1]}, and brought nothing new")
            except (JetstreamError, Refused) as caught:
                if not isinstance(caught, NotOffered):
                    self._end(str(caught))
                error = caught
            mended = await self._mended(server, resumption, error)
            if self._progress > progress:
                self._failures = 0
            elif not mended:
                await self._fail(server, resumption, error)

    async def _mended(self, server: Server, resumption: Resumption, error: JetstreamError | Refused) -> bool:
        """Whether the error says what to do otherwise, and asking again at once makes sense."""
        match error:
            case OtherNumbers():
                resumption.distrust_numbers()
            case CursorTooOld() if resumption.begun:
                resumption.distrust_numbers()
            case CursorTooOld():
                server.refused = Refused(f"{error}; begin at a later cursor, or at a time")
                return False
            case _Stalled() if error.alive:
                self.stall_sec = min(2 * self.stall_sec, _MAX_STALL_SEC)
            case _:
                return await server.adapt(error)
        return True

    async def _fail(self, server: Server, resumption: Resumption, error: JetstreamError | Refused) -> None:
        """Turn to the next host: at once, or after a growing, jittered pause when all of them were asked."""
        if server.refused and (resumption.is_of_one_host or all(one.refused for one in self._servers)):
            raise self._servers[0].refused or error
        willing = [one for one in self._servers if not one.refused]
        if resumption.is_of_one_host:
            willing = [server]
        later = [one for one in willing if self._servers.index(one) > self._turn]
        self._turn = self._servers.index((later or willing)[0])
        if isinstance(error, _Stalled):
            return
        self._failures += 1
        rounds, asked = divmod(self._failures, len(willing))
        limit = self._limit(error)
        if limit is not None and rounds >= limit:
            raise error
        if rounds and not asked:
            pause = min(_FIRST_PAUSE_SEC * 2 ** min(rounds - 1, 10), _MAX_PAUSE_SEC)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    def _limit(self, error: JetstreamError | Refused) -> int | None:
        """How often all hosts are asked in vain."""
        if self.connections:
            return None if self.persistent else _MAX_ROUNDS
        return _MAX_BUSY_ROUNDS if isinstance(error, Busy) else _MAX_FIRST_ROUNDS

    def _end(self, ending: str) -> None:
        self.endings.append(ending)
        self._note(ending)

    def _note(self, text: str) -> None:
        if self.on_note:
            self.on_note(text)

    async def _read(self, server: Server, resumption: Resumption) -> AsyncGenerator[Batch, None]:
        """What is new on one connection, until it ends."""
        cursor = resumption.cursor(server.host)
        asked_at_us = _now_us()
        bytes_before = self.bytes_received
        async with server.connect(cursor) as connection:
            self.connections += 1
            resumption.live_since(asked_at_us - REWIND_US)
            opening = resumption.opening(cursor)
            known_rejected = resumption.recent.rejected()
            quiet = 0.0
            while True:
                messages = await connection.receive(_TICK_SEC)
                self.bytes_received = bytes_before + connection.bytes_received
                if not messages:
                    if connection.ended is not None:
                        break
                    quiet += _TICK_SEC
                    self._silence += _TICK_SEC
                    yield Batch(_NOTHING, (), server.host.name, server.wire, self._silence)
                    if quiet >= self.stall_sec:
                        raise _Stalled(server.host, quiet, await server.shows_life())
                    continue
                quiet = self._silence = 0.0
                self.messages_received += len(messages)
                texts = server.texts(messages)
                while decoded := await asyncio.to_thread(_decode_next, texts, server):
                    for notice in decoded.notices:
                        self._note(f"{server.host.name}: {notice.name}: {notice.message}")
                    yield self._new(decoded, server, resumption, opening, known_rejected)
        server.ended(connection)
        self._end(f"{server.host.name}: {connection.ended}")

    def _new(
        self,
        decoded: Decoded,
        server: Server,
        resumption: Resumption,
        opening: Opening,
        known_rejected: set[bytes],
    ) -> Batch:
        """What is new in a part of a stream, and passes the filter also on our side."""
        events, rejected = opening.trim(decoded.events, decoded.rejected)
        if opening.gap:
            self._note(f"{server.host.name} {opening.gap}")
            opening.gap = None
        fresh = resumption.saw(events, server.host)
        repeats = fresh.count(False)
        self.repeats += repeats
        if rejected:
            digested = zip(rejected, digests(rejected), strict=True)
            rejected = tuple(message for message, digest in digested if digest not in known_rejected)
            resumption.recent.reject(rejected)
        if len(fresh) > repeats:
            self.stall_sec = max(self.stall_sec / 2, _FIRST_STALL_SEC)
        self._progress += len(fresh) - repeats + len(rejected)
        keep = pc.and_(pa.array(fresh, pa.bool_()), self.subscription.mask(events))
        return Batch(events, rejected, server.host.name, server.wire, 0.0).filtered(keep.to_pylist())


def _decode_next(texts: Iterator[Sequence[bytes]], server: Server) -> Decoded | None:
    part = next(texts, None)
    if part is None:
        return None
    return decode(part, server.host.name, _now_us() + _CLOCK_SLACK_US, server.wire)


def _now_us() -> int:
    return time.time_ns() // 1000
