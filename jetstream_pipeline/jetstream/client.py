"""A stream that outlives its connections and its hosts: resumed, repeats dropped, decoded and filtered.

Knows nothing of windows or files: it starts at a cursor and goes on until the caller has enough.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import CLOCK_SLACK_US, Rejected, decode
from jetstream_pipeline.events.identity import digests
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.events.wires import ARCHIVE, Wire
from jetstream_pipeline.jetstream.archives import Archives, reach_us
from jetstream_pipeline.jetstream.errors import (
    CursorTooOld,
    Gap,
    HistoryMissing,
    JetstreamError,
    NotOffered,
    Refused,
    Stalled,
)
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.joint import Joint
from jetstream_pipeline.jetstream.resumption import (
    FIRST_TIME_CURSOR,
    HOST_SKEW_US,
    REWIND_US,
    Opening,
    OtherNumbers,
    Resumption,
)
from jetstream_pipeline.jetstream.server import Options, Server
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.jetstream.turns import Turns
from jetstream_pipeline.window import from_us

_TICK_SEC = 1.0
_FIRST_STALL_SEC = 30.0
_MAX_STALL_SEC = 1920.0
"""A host may scan for as long as this before it comes to an event that a narrow filter lets through."""
_ENDINGS_KEPT = 200
_CLAMPED = "OutdatedCursor"
"""What a v2 host says first when it begins later than asked (lexicon of subscribeEvents)."""


@dataclass(frozen=True)
class Batch:
    """What came since the last one: new events in stream order and the messages between them that are none, from where,
    and the seconds since anything new came."""

    part: Part
    host: str
    wire: str
    silence: float

    @property
    def events(self) -> pa.RecordBatch:
        return self.part.events

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return self.part.rejected

    def filtered(self, keep: pa.BooleanArray) -> Batch:
        """The batch with only these of its events."""
        return replace(self, part=self.part.filtered(keep))


@dataclass(frozen=True)
class Span:
    """The part of a stream that is to be shown whole, in unix microseconds: a host's history must reach back to before
    `from_us`, and the stream is to be seen to pass `to_us`, however little its filter lets through."""

    from_us: int
    to_us: int


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
    span: Span | None = None
    """Where it is given, hosts whose history does not join on are passed over while there are others, and events that
    the filter would not let through are handed out too: they show how far the stream has come."""
    skew_us: int = HOST_SKEW_US
    """How far the hosts' clocks may differ."""

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
        self.shown: str | None = None
        """What showed that the first connection's host had all from the span's beginning on."""
        self.left_out: list[str] = []
        """What hosts had that was not taken, as it was too large."""
        self.gaps: list[Gap] = []
        """What none of the hosts has any more of the span, as far as this stream met it."""
        options = replace(self.options, passing_us=self.span.to_us) if self.span else self.options
        servers = [Server(host, self.subscription, options, self._note) for host in self.hosts]
        self._turns = Turns(servers, self.persistent)
        self.archives = Archives(self.hosts, self.subscription, self.options.archive, self._end, self._join_archive)
        self._clamped_us: int | None = None
        """When a stream begins that no longer has what it was asked for, until archives were asked for that."""
        self._latest_us = 0
        self._progress = 0
        self._silence = 0.0

    async def batches(self, cursor: int | None, resumption: Resumption | None = None) -> AsyncGenerator[Batch, None]:
        """New events from `cursor` on (unix microseconds; a sequence number of the first host; None: the live tip),
        for as long as the caller asks; `resumption` says where another client of this stream stopped. What lies beyond
        the reach of the hosts' streams comes from the first archive that has it.

        Refused where every host refuses, JetstreamError where none can be reached or none gets any further.
        """
        resumption = resumption or Resumption(cursor, self.skew_us)
        while True:
            cursor = resumption.cursor(self._turns.current.host)
            if self._turns.excused or self._clamped_us or self.archives.are_due(cursor):
                async with aclosing(self._read_archives(resumption)) as older:
                    async for batch in older:
                        yield batch
                self._clamped_us = None
            server, progress = self._turns.current, self._progress
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
                self._turns.served()
            elif not mended:
                await self._turns.turn(error, reached=self.connections > 0, alone=resumption.is_of_one_host)

    async def _mended(self, server: Server, resumption: Resumption, error: JetstreamError | Refused) -> bool:
        """Whether the error says what to do otherwise, and asking again at once makes sense."""
        match error:
            case OtherNumbers():
                return resumption.distrust_numbers()
            case CursorTooOld() if resumption.begun:
                return resumption.distrust_numbers()
            case CursorTooOld() if self.archives.are_left:
                self._clamped_us = _now_us()
            case HistoryMissing() if not self.span:
                self._clamped_us = error.gap.begins_us
            case CursorTooOld():
                server.refused = Refused(f"{error}; begin at a later cursor, or at a time")
                return False
            case Stalled() if error.alive:
                self.stall_sec = min(2 * self.stall_sec, _MAX_STALL_SEC)
            case _:
                return await server.adapt(error)
        return True

    def _end(self, ending: str) -> None:
        self.endings.append(ending)
        self._note(ending)

    def _note(self, text: str) -> None:
        if self.on_note:
            self.on_note(text)

    async def _read_archives(self, resumption: Resumption) -> AsyncGenerator[Batch, None]:
        """What is new in the first archive that has something from where the stream stands."""
        known_rejected = resumption.recent.rejected()
        until_us = self.span.to_us if self.span else None
        async with aclosing(self.archives.parts(resumption, until_us, self._streams_begin_us())) as parts:
            async for host, part in parts:
                self._turns.excused = None
                self._turns.prefer(host)
                self.messages_received += part.events.num_rows + len(part.rejected)
                new = self._new(part, host, resumption, known_rejected)
                # A plan that is made again brings the same rows again.
                known_rejected.update(digests(new.rejected))
                yield Batch(new, host.name, ARCHIVE, self._silence)

    def _streams_begin_us(self) -> int | None:
        """From when on hosts' streams have what is asked for, in unix microseconds; None where that is yet to be
        seen."""
        if self._turns.excused:
            return self._turns.begins_us
        return None if self.span else self._clamped_us or reach_us()

    def _join_archive(self, begins: Gap, begun: bool) -> None:
        """See whether an archive reaches back to what is to be shown, or joins on to what came before."""
        is_late = begins.begins_us > begins.asked_us
        if self.span and not begun and begins.begins_us < self.span.from_us:
            self.shown = f"{begins.host}'s archive begins at {from_us(begins.begins_us):%Y-%m-%d %H:%M:%S} UTC"
        elif self.span and is_late:
            self.gaps.append(begins)
        elif is_late:
            self._note(str(begins))

    async def _read(self, server: Server, resumption: Resumption) -> AsyncGenerator[Batch, None]:
        """What is new on one connection, until it ends."""
        cursor = resumption.cursor(server.host)
        asked_at_us = _now_us()
        bytes_before = self.bytes_received
        async with server.connect(cursor) as connection:
            self.connections += 1
            resumption.live_since(asked_at_us - REWIND_US)
            beginning = self._beginning(server, resumption, cursor)
            quiet = 0.0
            while True:
                waiting_since = time.monotonic()
                messages = await connection.receive(_TICK_SEC)
                self.bytes_received = bytes_before + connection.bytes_received
                if not messages:
                    ended = connection.ended is not None
                    if not ended:
                        quiet += _TICK_SEC
                        self._silence += _TICK_SEC
                    part = beginning.opening.settle()
                    await self._join(beginning, part, server, resumption)
                    part = self._new(part, server.host, resumption, beginning.known_rejected)
                    yield Batch(part, server.host.name, server.wire, self._silence)
                    if ended:
                        break
                    if quiet >= self.stall_sec:
                        await self._doubt(server, quiet)
                        quiet = 0.0
                    continue
                quiet = 0.0
                self.messages_received += len(messages)
                self._silence += time.monotonic() - waiting_since
                async for decoded in self._decoded(messages, server, beginning):
                    await self._join(beginning, decoded, server, resumption)
                    part = self._new(decoded, server.host, resumption, beginning.known_rejected)
                    yield Batch(part, server.host.name, server.wire, self._silence)
        if left_out := server.ended(connection):
            self.left_out.append(left_out)
        self._end(f"{server.host.name}: {connection.ended}")

    async def _doubt(self, server: Server, quiet: float) -> None:
        """Stalled, unless a host that lives may still be scanning a span: that scan would only begin anew."""
        alive = await server.shows_life()
        if not (alive and self.span):
            raise Stalled(server.host.name, quiet, alive)

    def _beginning(self, server: Server, resumption: Resumption, cursor: int | None) -> _Beginning:
        recent = resumption.recent if resumption.begun else None
        joint = None
        if self.span:
            joint = Joint(server, cursor, recent, self.span.from_us)
        elif cursor is not None and cursor >= FIRST_TIME_CURSOR and server.wire is Wire.V2 and self.archives.are_left:
            joint = Joint(server, cursor, recent, cursor)
        return _Beginning(resumption.opening(cursor), joint, resumption.recent.rejected())

    async def _decoded(
        self, messages: Sequence[bytes], server: Server, beginning: _Beginning
    ) -> AsyncGenerator[Part, None]:
        """The messages as parts of the stream, from where it was asked to begin."""
        self._latest_us = max(self._latest_us, _now_us() + CLOCK_SLACK_US)
        for texts in server.texts(messages):
            decoded = decode(texts, server.host.name, self._latest_us, server.wire)
            for notice in decoded.notices:
                self._note(f"{server.host.name}: {notice.name}: {notice.message}")
                if beginning.joint and notice.name == _CLAMPED:
                    beginning.joint.clamped = True
            part = beginning.opening.trim(Part(decoded.events, decoded.rejected))
            if beginning.opening.gap:
                self._note(f"{server.host.name} {beginning.opening.gap}")
                beginning.opening.gap = None
            yield part
            # The connection has its turn: in a thread of its own, decoding would only wait for that one.
            await asyncio.sleep(0)

    async def _join(self, beginning: _Beginning, part: Part, server: Server, resumption: Resumption) -> None:
        """See whether a connection's first events join on to what came before."""
        joint = beginning.joint
        if joint is None or joint.shown is not None or not part.events.num_rows:
            return
        try:
            await joint.close(part.events)
        except HistoryMissing as error:
            if server is not self._turns.excused:
                raise
            joint.shown = str(error)
            self.gaps.append(error.gap)
        else:
            if not resumption.begun:
                self.shown = joint.shown
        self._turns.excused = None

    def _new(self, part: Part, host: Host, resumption: Resumption, known_rejected: set[bytes]) -> Part:
        """What is new in a part of a stream; unless a span is to be shown, only what passes the filter on our side."""
        fresh = resumption.saw(part.events, host)
        repeats = len(fresh) - fresh.true_count
        self.repeats += repeats
        if part.rejected:
            digested = zip(part.rejected, digests(part.rejected), strict=True)
            new = tuple(message for message, digest in digested if digest not in known_rejected)
            part = replace(part, rejected=new)
            resumption.recent.reject(new)
        if len(fresh) > repeats:
            self._silence = 0.0
            self.stall_sec = max(self.stall_sec / 2, _FIRST_STALL_SEC)
        self._progress += len(fresh) - repeats
        return part.filtered(fresh if self.span else pc.and_(fresh, self.subscription.mask(part.events)))


@dataclass(frozen=True)
class _Beginning:
    """What one connection's first messages are held against."""

    opening: Opening
    joint: Joint | None
    known_rejected: set[bytes]


def _now_us() -> int:
    return time.time_ns() // 1000
