"""One subscriber: what it says, what it is sent, and how its connection ends.

The websocket belongs to `channel`, its beginning to `handshake`, what wants no websocket to `archive_api`. Which events
exist belongs to `feeds`, which are wanted to `filters`, where a stream begins to `timeline`.
"""

from __future__ import annotations

import asyncio
import socket

from websockets.frames import Frame, Opcode

from jetstream_pipeline.simulator.archive_api import answer_get, answer_post, is_of_archive
from jetstream_pipeline.simulator.channel import Channel
from jetstream_pipeline.simulator.encoding import Encoding, Wire
from jetstream_pipeline.simulator.envelopes import outdated_cursor
from jetstream_pipeline.simulator.fault_player import FaultPlayer
from jetstream_pipeline.simulator.faults import Fault, ServeEarly
from jetstream_pipeline.simulator.filters import InvalidOptions
from jetstream_pipeline.simulator.handshake import Admission, answer
from jetstream_pipeline.simulator.host import Host
from jetstream_pipeline.simulator.pages import Page
from jetstream_pipeline.simulator.requests import has_body, read_beginning
from jetstream_pipeline.simulator.schedule import MINUTE_US
from jetstream_pipeline.simulator.sockets import ByteStream, Ended
from jetstream_pipeline.simulator.subscription import FIRST_TIME_CURSOR, Subscription, Unreadable, read_update
from jetstream_pipeline.simulator.timeline import Position

_EVENTS_PER_WRITE = 2048
_POLL_SECONDS = 0.05
_FAREWELL_SECONDS = 1.0


class Connection:
    """Serves one accepted socket until its end."""

    def __init__(self, host: Host, connected: socket.socket) -> None:
        self._host = host
        self._stream = ByteStream(connected, host.pong_timeout)
        self._channel = Channel(self._stream)
        self._hello = asyncio.Event()
        self._encoding: Encoding | None = None
        self._fragments: list[bytes] = []
        self._hearing_text = False

    async def serve(self) -> None:
        try:
            admission = await self._handshake()
            if admission is not None:
                await self._talk(admission)
            if not self._stream.resets:
                self._stream.end()
                await self._channel.read_to_the_end()
        except (OSError, Ended):
            pass
        finally:
            self._stream.close()

    def reads(self, encoding: Encoding) -> bool:
        return self._encoding == encoding

    async def announce_shutdown(self) -> None:
        """Say goodbye; `serve` ends when the subscriber has answered, or soon anyway."""
        await self._channel.close(1001, "server shutting down")

    def cut(self) -> None:
        """Let the subscriber see the end now; `serve` ends when it has."""
        self._stream.end()

    async def _handshake(self) -> Admission | None:
        beginning = await read_beginning(self._stream)
        if has_body(beginning):
            await answer_post(self._host, self._stream, beginning)
            return None
        request = await self._channel.request(beginning)
        if request is None:
            return None
        if is_of_archive(self._host, request.path):
            await answer_get(self._host, self._stream, request)
            return None
        response, admission = await answer(self._host, self._channel.protocol, request)
        if response is not None:
            await self._channel.respond(response)
        return admission

    async def _talk(self, admission: Admission) -> None:
        """Listen and send until either ends."""
        subscription = admission.subscription
        self._filter, self._encoding = subscription.filter, subscription.encoding
        sending = asyncio.create_task(self._send_events(admission))
        listening = asyncio.create_task(self._listen(subscription.encoding.wire))
        try:
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not self._channel.is_open:
                await asyncio.wait((listening,), timeout=_FAREWELL_SECONDS)
        finally:
            for task in (sending, listening):
                task.cancel()
            outcomes = await asyncio.gather(sending, listening, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, (Ended, OSError)):
                raise outcome

    async def _listen(self, wire: Wire) -> None:
        while (frames := await self._channel.receive()) is not None:
            for frame in frames:
                await self._hear(frame, wire)
            await self._channel.flush()

    async def _hear(self, frame: Frame, wire: Wire) -> None:
        if frame.opcode is Opcode.PONG:
            self._channel.take_pong(bytes(frame.data))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if wire is Wire.V2:
                await self._channel.close(1008, "unexpected data message")
                return
            if frame.opcode is not Opcode.CONT:
                self._hearing_text = frame.opcode is Opcode.TEXT
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                message = b"".join(self._fragments)
                self._fragments.clear()
                if self._hearing_text:
                    await self._obey(message)

    async def _obey(self, message: bytes) -> None:
        try:
            update = read_update(message)
        except Unreadable as error:
            await self._channel.close(1007, str(error))
        except InvalidOptions as error:
            await self._channel.close(1008, str(error))
        else:
            if update is not None:
                self._filter = update
                self._hello.set()

    async def _send_events(self, admission: Admission) -> None:
        timeline, encoding = self._host.timeline, admission.subscription.encoding
        player = FaultPlayer(self._host, self._channel, encoding, admission.number, admission.fault)
        position = await self._begin(admission.subscription, admission.fault, player)
        page: Page | None = None
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + self._host.ping_interval
        while self._channel.is_open:
            if loop.time() >= next_ping:
                await self._channel.ping(self._host.pong_timeout)
                next_ping = loop.time() + self._host.ping_interval
            if page is None or page.minute != position.minute or not page.serves(self._filter.dids):
                page = await self._page(position.minute, encoding)
                continue
            start = page.first_of_seq(position.seq)
            stop = min(page.first_after(timeline.now_us(), start), start + _EVENTS_PER_WRITE)
            if stop > start or page.limited_to:
                await player.send(page, self._filter.select(page, start, stop))
                position = Position(position.minute, page.seq_from(stop))
                # A narrow filter sends nothing for long; others want to be heard meanwhile.
                await asyncio.sleep(0)
            if stop == page.count and timeline.is_over(page.minute):
                position = Position(position.minute + 1, 0)
            elif stop == start:
                await asyncio.sleep(_POLL_SECONDS)

    async def _page(self, minute: int, encoding: Encoding) -> Page:
        """A page, or what this subscriber needs of it. The present is on whole pages: they are ready in time."""
        pages, timeline = self._host.pages, self._host.timeline
        dids = self._filter.dids if timeline.is_over(minute) else frozenset()
        page = await pages.page(minute, encoding, dids)
        if not dids or not timeline.is_over(minute + 1):
            pages.prepare(minute + 1, encoding)
        return page

    async def _begin(self, subscription: Subscription, fault: Fault | None, player: FaultPlayer) -> Position:
        """Where to start; a live tail starts at what is live when the subscriber has said hello."""
        cursor, timeline = subscription.cursor, self._host.timeline
        asked_us = cursor if cursor is not None and cursor >= FIRST_TIME_CURSOR else None
        announced = asked_us is not None and asked_us < timeline.oldest_us()
        if asked_us is not None and isinstance(fault, ServeEarly):
            cursor = max(FIRST_TIME_CURSOR, asked_us - int(fault.minutes * MINUTE_US))
        # What is announced, a fault, and another filter before the first event want to know the exact place.
        exact = asked_us is None or announced or fault is not None or subscription.require_hello
        dids = frozenset() if exact else self._filter.dids
        position = await timeline.start(cursor, dids)
        if not exact and self._filter.dids != dids:
            position = await timeline.start(cursor)
        if announced and subscription.encoding.wire is Wire.V2:
            await player.tell(outdated_cursor(await timeline.seq_at(position)))
        if subscription.require_hello:
            await self._hello.wait()
            position = position if cursor is not None else await timeline.start(None)
        await player.begin(position)
        return position
