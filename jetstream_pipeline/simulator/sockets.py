"""A stream socket whose writes are bounded in time by progress, not by size.

Bytes only: websockets' rules belong to `connection`.
"""

import asyncio
import contextlib
import socket

_READ_BYTES = 65_536


class SlowReader(Exception):
    """The other side took nothing for too long."""


class ByteStream:
    """Reads, and writes whole byte strings, over a connected non-blocking socket."""

    def __init__(self, connected: socket.socket, patience: float) -> None:
        self._socket = connected
        self._patience = patience
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        """Empty at the end of the stream, however it came about."""
        try:
            return await self._loop.sock_recv(self._socket, _READ_BYTES)
        except OSError:
            return b""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Everything is in the kernel's hands afterwards. Raises SlowReader or OSError."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await self._writable()

    def end(self) -> None:
        """Nothing more will be written; what was written still arrives."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        descriptor = self._socket.fileno()
        self._loop.add_writer(descriptor, _resolve, ready)
        try:
            await asyncio.wait_for(ready, self._patience)
        except TimeoutError:
            raise SlowReader from None
        finally:
            self._loop.remove_writer(descriptor)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
