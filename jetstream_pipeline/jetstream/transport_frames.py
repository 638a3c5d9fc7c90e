"""Connections over websockets whose plain messages are found many at once, in the memory that they are received in.

Opening, farewells, control frames, fragments and whatever is against the protocol are left to websockets, frame by
frame, in the order in which they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event, State

from jetstream_pipeline.jetstream import frames
from jetstream_pipeline.jetstream.connection import MAX_MESSAGE_BYTES, Connection
from jetstream_pipeline.jetstream.intake import Intake
from jetstream_pipeline.jetstream.transport_websockets import Websockets, connect

_MEMORY_BYTES = 4 * 1024 * 1024
_READ_BYTES = 256 * 1024
"""At once: it is searched while it is still near."""
_KNOWN = (0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A)
"""First bytes that a frame may have."""


async def opened(url: str, subprotocol: str | None) -> Connection:
    """An open connection. Declined, OSError, ValueError, LookupError or WebSocketException where there is none."""
    return _Frames(await connect(url, subprotocol, _Socket))


class _Socket(ClientConnection, asyncio.BufferedProtocol):
    """Puts messages into its intake; `arrived` is called when there are more."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.intake = Intake()
        self.arrived: Callable[[], None] = lambda: None
        self.mistake: Exception | None = None
        """What went wrong on our side."""
        self._use(np.empty(_MEMORY_BYTES, np.uint8))
        self._at = 0
        """Where the next frame begins."""
        self._filled = 0
        self._left = False
        """Whether all that comes is websockets': a connection that ends."""
        self._fragments = bytearray()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._octets[self._filled : self._filled + _READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        before = self.intake.count
        try:
            self._take_in(nbytes)
        except Exception as error:
            self.mistake = error
            self.transport.abort()
        if self.intake.count > before:
            self.arrived()

    def process_event(self, event: Event) -> None:
        """Fragments are put together here, in order with what is no fragment."""
        if not (isinstance(event, Frame) and event.opcode in DATA_OPCODES):
            super().process_event(event)
            return
        self._fragments += event.data
        if event.fin:
            self.intake.add(bytes(self._fragments))
            self._fragments.clear()

    def _take_in(self, size: int) -> None:
        self._filled += size
        while self.protocol.state is State.CONNECTING and self._at < self._filled:
            # Line by line: what follows the last line of the answer is frames.
            line = bytes(self._octets[self._at : self._filled]).partition(b"\n")
            self._hand_on(len(line[0]) + len(line[1]))
        whole = self._at + self._read_frames()
        if max(whole, self._filled + _READ_BYTES) > len(self._memory):
            self._move(whole - self._at)

    def _read_frames(self) -> int:
        """Take what is whole; how many bytes the frame is going to have that is not, as far as it is known."""
        while self._at < self._filled:
            if not self._is_ours:
                self._hand_on(self._filled - self._at)
                break
            limit = MAX_MESSAGE_BYTES - (self.protocol.current_size or 0)
            if self.protocol.current_size is None:
                messages = frames.plain(self._memory, self._octets, self._at, self._filled, limit)
                self.intake.add_all(messages)
                self._at = int(messages.ends[-1]) if messages else self._at
            found = frames.header(self._octets, self._at, self._filled)
            if found is None:
                break
            if found.kind not in _KNOWN or found.length is None or found.length > limit:
                self._left = True
                continue
            size = found.start + found.length - self._at
            if self._at + size > self._filled:
                return size
            self._hand_on(size)
        return 0

    @property
    def _is_ours(self) -> bool:
        return not self._left and self.protocol.state is State.OPEN

    def _hand_on(self, size: int) -> None:
        """Websockets takes so many bytes."""
        begins, self._at = self._at, self._at + size
        self.data_received(bytes(self._octets[begins : self._at]))

    def _move(self, whole: int) -> None:
        """Go on in other memory: what has been taken in lies in this one until nobody needs it."""
        rest = self._memory[self._at : self._filled]
        self._use(np.empty(max(_MEMORY_BYTES, whole + _READ_BYTES), np.uint8))
        self._at, self._filled = 0, len(rest)
        self._memory[: len(rest)] = rest

    def _use(self, memory: np.ndarray) -> None:
        self._memory = memory
        self._octets = memory.data


class _Frames(Websockets[_Socket]):
    def __init__(self, socket: _Socket) -> None:
        super().__init__(socket, socket.intake)
        socket.arrived = self._arrived
        self._paused = False
        self._arrived()

    def _arrived(self) -> None:
        self._wake()
        if self._intake.size >= self._limit and not self._paused:
            self._paused = True
            self._socket.transport.pause_reading()

    async def _read(self) -> None:
        try:
            # Nothing that it would return comes to it: it ends with the connection.
            await self._socket.recv()
        except ConnectionClosed as error:
            if self._socket.mistake:
                raise self._socket.mistake from error
            raise

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._socket.transport.resume_reading()
