"""A websocket over a socket: whole frames out, one writer at a time; frames and requests in.

Frames of events are written ready-made; everything else goes through a sans-IO websocket protocol. Which events
are sent, and when, belongs to `connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from jetstream_pipeline.simulator.pages import Page
from jetstream_pipeline.simulator.sockets import ByteStream, Ended

MAX_CLIENT_MESSAGE_BYTES = 10_000_000

_FAREWELL_SECONDS = 1.0
_MAX_REASON_BYTES = 123


class Channel:
    """The server's side of one websocket, from the request on."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.protocol = ServerProtocol(max_size=MAX_CLIENT_MESSAGE_BYTES)
        self._writing = asyncio.Lock()
        self._pong = asyncio.Event()
        self._pings = 0
        self._mute = False

    @property
    def is_open(self) -> bool:
        return self.protocol.state is State.OPEN

    async def request(self, data: bytes) -> Request | None:
        """What the other side asks for, beginning so; None if it is nothing that can be answered."""
        while data:
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                if isinstance(event, Request):
                    return event
            if self.protocol.handshake_exc is not None:
                await self.flush()
                return None
            data = await self.stream.read()
        return None

    async def respond(self, response: Response) -> None:
        self.protocol.send_response(response)
        await self.flush()

    async def receive(self) -> list[Frame] | None:
        """The next frames, perhaps an empty list; None when the other side has said its last."""
        if self.protocol.close_rcvd is not None or self.protocol.state is State.CLOSED:
            return None
        data = await self.stream.read()
        if not data:
            return None
        self.protocol.receive_data(data)
        return [event for event in self.protocol.events_received() if isinstance(event, Frame)]

    async def write_events(self, page: Page, selected: Sequence[int]) -> bool:
        """False if the channel closed meanwhile and nothing was written."""
        async with self._writing:
            if not self.is_open:
                return False
            if not self.protocol.extensions:
                await self.stream.write(page.bytes_of(selected))
                return True
            for index in selected:
                self.protocol.send_text(page.payload(index))
            await self._write_pending()
            return True

    async def write_messages(self, messages: Iterable[bytes], *, binary: bool) -> None:
        send = self.protocol.send_binary if binary else self.protocol.send_text
        async with self._writing:
            if self.is_open:
                for message in messages:
                    send(message)
                await self._write_pending()

    async def write_part(self, data: bytes) -> None:
        """Bytes that are no whole frame: nothing can follow them."""
        async with self._writing:
            await self.stream.write(data)

    def mute(self) -> None:
        """From now on nothing is written, whatever is asked."""
        self._mute = True

    async def close(self, code: int | None, reason: str = "") -> None:
        """Begin to say goodbye; a code of None is an empty close frame."""
        short = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        async with self._writing:
            if self.is_open:
                self.protocol.send_close(code, short)
                await self._write_pending()

    async def ping(self, patience: float) -> None:
        """Returns when the answer is there. Raises Ended if it does not come."""
        self._pings += 1
        self._pong.clear()
        async with self._writing:
            if not self.is_open:
                return
            self.protocol.send_ping(b"%d" % self._pings)
            await self._write_pending()
        try:
            await asyncio.wait_for(self._pong.wait(), patience)
        except TimeoutError:
            raise Ended from None

    def take_pong(self, data: bytes) -> None:
        if data == b"%d" % self._pings:
            self._pong.set()

    async def flush(self) -> None:
        async with self._writing:
            await self._write_pending()

    async def read_to_the_end(self) -> None:
        """Take what still comes, since unread bytes would turn the end into a reset that loses ours."""
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while await self.stream.read():
                    pass
        except TimeoutError:
            pass

    async def _write_pending(self) -> None:
        data = b"".join(self.protocol.data_to_send())
        if data and not self._mute:
            await self.stream.write(data)
