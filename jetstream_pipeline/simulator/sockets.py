"""A stream socket whose writes are bounded in time by progress, not by size.

Bytes only: websockets' rules belong to `channel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from array import array

_READ_BYTES = 65_536
_PIECES_PER_SECOND = 20
_POLL_SECONDS = 0.01
_DISCARD_ON_CLOSE = struct.pack("ii", 1, 0)


class Ended(Exception):
    """The connection ends now, without a close frame."""


class SlowReader(Ended):
    """The other side took nothing for too long."""


class ByteStream:
    """Reads, and writes whole byte strings, over a connected non-blocking socket."""

    def __init__(self, connected: socket.socket, patience: float) -> None:
        self._socket = connected
        self.patience = patience
        """Seconds that the other side may take nothing."""
        self._loop = asyncio.get_running_loop()
        self._resets = False
        self.bytes_left: int | None = None
        """How much may still be written before the connection is cut; None: no limit."""
        self.bytes_per_second: int | None = None

    async def read(self) -> bytes:
        """Empty at the end of the stream, however it came about."""
        try:
            return await self._loop.sock_recv(self._socket, _READ_BYTES)
        except OSError:
            return b""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Everything is in the kernel's hands afterwards. Raises Ended or OSError."""
        rest = memoryview(data)
        if self.bytes_left is not None:
            rest = rest[: self.bytes_left]
            self.bytes_left -= len(rest)
        if self.bytes_per_second is None:
            await self._write(rest)
        else:
            await self._trickle(rest, self.bytes_per_second)
        if self.bytes_left == 0:
            raise Ended

    def end(self) -> None:
        """Nothing more will be written; what was written still arrives."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def reset(self) -> None:
        """What was written still arrives, and then a reset: it leaves when the socket closes."""
        deadline = self._loop.time() + self.patience
        while _unacknowledged(self._socket) and self._loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD_ON_CLOSE)
        self._resets = True

    @property
    def resets(self) -> bool:
        """Whether the end is a reset."""
        return self._resets

    def close(self) -> None:
        self._socket.close()

    async def _write(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await self._writable()

    async def _trickle(self, data: memoryview, bytes_per_second: int) -> None:
        size = max(1, bytes_per_second // _PIECES_PER_SECOND)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            await self._write(piece)
            await asyncio.sleep(len(piece) / bytes_per_second)

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        descriptor = self._socket.fileno()
        self._loop.add_writer(descriptor, _resolve, ready)
        try:
            await asyncio.wait_for(ready, self.patience)
        except TimeoutError:
            raise SlowReader from None
        finally:
            self._loop.remove_writer(descriptor)


def _unacknowledged(connected: socket.socket) -> int:
    """Bytes on their way to the other side."""
    number = array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(connected, termios.TIOCOUTQ, number)
    return number[0]


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
