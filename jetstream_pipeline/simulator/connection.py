"""One subscriber's websocket: handshake, what it says, what it is sent, and every way in which it can end.

Frames of events are written ready-made; everything else goes through a sans-IO websocket protocol. Which
events exist belongs to `network`, which are wanted to `filters`, where a stream begins to `timeline`.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from jetstream_pipeline.simulator.faults import FaultPlan
from jetstream_pipeline.simulator.filters import InvalidOptions
from jetstream_pipeline.simulator.pages import Page, PageCache
from jetstream_pipeline.simulator.sockets import ByteStream, SlowReader
from jetstream_pipeline.simulator.subscription import (
    PATH,
    Refused,
    Subscription,
    Unreadable,
    read_subscription,
    read_update,
)
from jetstream_pipeline.simulator.timeline import Position, Timeline

MAX_CLIENT_MESSAGE_BYTES = 10_000_000

_EVENTS_PER_WRITE = 2048
_POLL_SECONDS = 0.05
_FAREWELL_SECONDS = 1.0
_MAX_REASON_BYTES = 123
_GREETING = "This is a simulated Jetstream. Subscribe with a websocket at /subscribe.\n"


class _Cut(Exception):
    """The connection ends now, without a close frame."""


class Host(Protocol):
    """What a connection needs to know of its server."""

    pages: PageCache
    timeline: Timeline
    faults: FaultPlan
    ping_interval: float
    pong_timeout: float


class Connection:
    """Serves one accepted socket until its end."""

    def __init__(self, host: Host, connected: socket.socket) -> None:
        self._host = host
        self._stream = ByteStream(connected, host.pong_timeout)
        self._protocol = ServerProtocol(max_size=MAX_CLIENT_MESSAGE_BYTES)
        self._writing = asyncio.Lock()
        self._hello = asyncio.Event()
        self._pong = asyncio.Event()
        self._pings = 0
        self._sent = 0
        self._fragments: list[bytes] = []
        self._hearing_text = False

    async def serve(self) -> None:
        try:
            subscription = await self._handshake()
            if subscription is not None:
                await self._talk(subscription)
            self._stream.end()
            await self._read_to_the_end()
        except (OSError, SlowReader):
            pass
        finally:
            self._stream.close()

    async def announce_shutdown(self) -> None:
        """Say goodbye; `serve` ends when the subscriber has answered, or soon anyway."""
        await self._close(1001, "server shutting down")

    async def _handshake(self) -> Subscription | None:
        while True:
            data = await self._stream.read()
            if not data:
                return None
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Request):
                    subscription = self._answer(event)
                    await self._flush()
                    return subscription
            if self._protocol.handshake_exc is not None:
                await self._flush()
                return None

    def _answer(self, request: Request) -> Subscription | None:
        path, _, query = request.path.partition("?")
        if path == "/":
            self._protocol.send_response(self._protocol.reject(200, _GREETING))
            return None
        try:
            if path != PATH:
                raise Refused(404, "404 page not found")
            subscription = read_subscription(query, request.headers)
        except Refused as refused:
            self._protocol.send_response(self._protocol.reject(refused.status, refused.text))
            return None
        if not subscription.compressed:
            self._protocol.available_extensions = [ServerPerMessageDeflateFactory()]
        self._protocol.send_response(self._protocol.accept(request))
        return subscription if self._protocol.state is State.OPEN else None

    async def _talk(self, subscription: Subscription) -> None:
        """Listen and send until either ends."""
        self._filter = subscription.filter
        sending = asyncio.create_task(self._send_events(subscription))
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and self._protocol.state is not State.OPEN:
                await asyncio.wait((listening,), timeout=_FAREWELL_SECONDS)
        finally:
            for task in (sending, listening):
                task.cancel()
            outcomes = await asyncio.gather(sending, listening, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, (_Cut, SlowReader, OSError)):
                raise outcome

    async def _listen(self) -> None:
        while self._protocol.state is not State.CLOSED:
            data = await self._stream.read()
            if not data:
                return
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    await self._hear(event)
            await self._flush()
            if self._protocol.close_rcvd is not None:
                return

    async def _hear(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            if bytes(frame.data) == b"%d" % self._pings:
                self._pong.set()
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
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
            await self._close(1007, str(error))
        except InvalidOptions as error:
            await self._close(1008, str(error))
        else:
            if update is not None:
                self._filter = update
                self._hello.set()

    async def _close(self, code: int, reason: str) -> None:
        if self._protocol.state is not State.OPEN:
            return
        short = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        async with self._writing:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code, short)
                await self._write_pending()

    async def _send_events(self, subscription: Subscription) -> None:
        number = self._host.faults.connection_number()
        position = await self._begin(subscription)
        page: Page | None = None
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + self._host.ping_interval
        while self._protocol.state is State.OPEN:
            if loop.time() >= next_ping:
                await self._ping()
                next_ping = loop.time() + self._host.ping_interval
            if page is None or page.minute != position.minute:
                page = await self._host.pages.page(position.minute, subscription.compressed)
                self._host.pages.prepare(position.minute + 1, subscription.compressed)
            if position.index == page.count:
                position = Position(position.minute + 1, 0)
                continue
            stop = page.first_after(self._host.timeline.now_us(), position.index)
            stop = min(stop, position.index + _EVENTS_PER_WRITE)
            if stop == position.index:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            await self._send(page, self._filter.select(page, position.index, stop), number)
            position = Position(position.minute, stop)
            # A narrow filter sends nothing for long; others want to be heard meanwhile.
            await asyncio.sleep(0)

    async def _begin(self, subscription: Subscription) -> Position:
        """Where to start; a live tail starts at what is live when the subscriber has said hello."""
        position = await self._host.timeline.start(subscription.cursor)
        if not subscription.require_hello:
            return position
        await self._hello.wait()
        return position if subscription.cursor is not None else await self._host.timeline.start(None)

    async def _send(self, page: Page, selected: Sequence[int], number: int) -> None:
        before_cut = self._host.faults.events_before_cut(number, self._sent, page, selected)
        if before_cut is not None:
            selected = selected[:before_cut]
        if selected:
            async with self._writing:
                if self._protocol.state is State.OPEN:
                    await self._write_events(page, selected)
                    self._sent += len(selected)
        if before_cut is not None:
            raise _Cut

    async def _write_events(self, page: Page, selected: Sequence[int]) -> None:
        if not self._protocol.extensions:
            await self._stream.write(page.bytes_of(selected))
            return
        for index in selected:
            self._protocol.send_text(page.payload(index))
        await self._write_pending()

    async def _ping(self) -> None:
        """Sends nothing more until the answer is there, as the real server does."""
        self._pings += 1
        self._pong.clear()
        async with self._writing:
            if self._protocol.state is not State.OPEN:
                return
            self._protocol.send_ping(b"%d" % self._pings)
            await self._write_pending()
        try:
            await asyncio.wait_for(self._pong.wait(), self._host.pong_timeout)
        except TimeoutError:
            raise _Cut from None

    async def _flush(self) -> None:
        async with self._writing:
            await self._write_pending()

    async def _write_pending(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data:
            await self._stream.write(data)

    async def _read_to_the_end(self) -> None:
        """Take what still comes, since unread bytes would turn the end into a reset that loses ours."""
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while await self._stream.read():
                    pass
        except TimeoutError:
            pass
