"""One websocket connection's life: messages in, bounded in bytes, until it ends. Resuming is the client's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from jetstream_pipeline.jetstream.errors import JetstreamError, Refused
from jetstream_pipeline.jetstream.hosts import Host

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_BUFFER_BYTES = 32 * 1024 * 1024
_BATCH_MESSAGES = 20_000
_OPEN_TIMEOUT_SEC = 10
_CLOSE_TIMEOUT_SEC = 1
_PING_INTERVAL_SEC = 30
_PING_TIMEOUT_SEC = 120
_REASON_CHARS = 300


class Connection:
    """An open stream. `receive` hands over what has come; `ended` says why no more will."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._messages: list[bytes] = []
        self._bytes = 0
        self._change = asyncio.Condition()
        self.ended: str | None = None
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                data = await self._socket.recv(decode=False)
                if self._bytes >= _BUFFER_BYTES:
                    async with self._change:
                        await self._change.wait_for(lambda: self._bytes < _BUFFER_BYTES)
                self._messages.append(data)
                self._bytes += len(data)
                if len(self._messages) == 1:
                    async with self._change:
                        self._change.notify_all()
        except ConnectionClosed as error:
            reason = str(error)
        async with self._change:
            self.ended = reason
            self._change.notify_all()

    async def receive(self, timeout: float) -> list[bytes]:
        """The messages that have come, in order; empty after `timeout` seconds of silence or at the end."""
        async with self._change:
            try:
                await asyncio.wait_for(self._change.wait_for(lambda: self._messages or self.ended), timeout)
            except TimeoutError:
                return []
            taken, self._messages = self._messages[:_BATCH_MESSAGES], self._messages[_BATCH_MESSAGES:]
            self._bytes -= sum(map(len, taken))
            self._change.notify_all()
            return taken

    async def close(self) -> None:
        """Leave at once: a host in mid-replay would keep sending for as long as a polite farewell takes."""
        self._socket.transport.abort()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


@asynccontextmanager
async def connected(host: Host, url: str) -> AsyncIterator[Connection]:
    """Connect to `url` on `host`. Refused for a 4xx, JetstreamError for whatever may pass."""
    with _told(host):
        socket = await connect(
            url,
            compression=None,
            max_size=_MAX_MESSAGE_BYTES,
            open_timeout=_OPEN_TIMEOUT_SEC,
            close_timeout=_CLOSE_TIMEOUT_SEC,
            ping_interval=_PING_INTERVAL_SEC,
            ping_timeout=_PING_TIMEOUT_SEC,
        )
    connection = Connection(socket)
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def _told(host: Host) -> Iterator[None]:
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        text = (error.response.body or b"").decode(errors="replace").strip()[:_REASON_CHARS]
        message = f"{host.name} answered {status}{': ' + text if text else ''}"
        if 400 <= status < 500 and status != 429:
            raise Refused(f"{message}; check the host and the filters") from error
        raise JetstreamError(message) from error
    except (OSError, TimeoutError, UnicodeError, WebSocketException) as error:
        raise JetstreamError(f"cannot reach {host.name} ({str(error) or type(error).__name__})") from error
