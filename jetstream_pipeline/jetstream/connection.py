"""One websocket connection's life: messages in, bounded in bytes, until it ends. Resuming is the client's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.http11 import Response
from websockets.typing import Subprotocol

from jetstream_pipeline.jetstream.errors import (
    Busy,
    CursorTooOld,
    JetstreamError,
    NotOffered,
    Refused,
    RetiredDictionary,
)
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.request import Request

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
_BUFFER_BYTES = 32 * 1024 * 1024
_BATCH_MESSAGES = 20_000
_OPEN_TIMEOUT_SEC = 10
_CLOSE_TIMEOUT_SEC = 1
_SILENCE_SEC = 20.0
"""Then a host is pinged."""
_ANSWER_SEC = 15.0
"""Then it is dead."""
_REASON_CHARS = 300
_NOT_OFFERED = (404, 405, 501)
_COME_AGAIN = (429, 500, 502, 503, 504)
_V2_ERRORS = {"UnknownZstdDictionary": RetiredDictionary, "CursorTooOld": CursorTooOld}


class Connection:
    """An open stream. `receive` hands over what has come; `ended` says why no more will."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._messages: list[bytes] = []
        self._bytes = 0
        self._change = asyncio.Condition()
        self._arrivals = 0
        self.bytes_received = 0
        self.ended: str | None = None
        self.oversized = False
        """Whether it ended because a message was larger than we take."""
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]

    async def _read(self) -> None:
        try:
            while True:
                data = await self._socket.recv(decode=False)
                self._arrivals += 1
                self.bytes_received += len(data)
                if self._bytes >= _BUFFER_BYTES:
                    async with self._change:
                        await self._change.wait_for(lambda: self._bytes < _BUFFER_BYTES)
                    self._arrivals += 1
                self._messages.append(data)
                self._bytes += len(data)
                if len(self._messages) == 1:
                    async with self._change:
                        self._change.notify_all()
        except ConnectionClosed as error:
            if error.sent and not error.rcvd_then_sent:
                self.oversized = error.sent.code == CloseCode.MESSAGE_TOO_BIG
            await self._end(str(error))

    async def _watch(self) -> None:
        """Ping where nothing comes: whoever answers has nothing to say, whoever does not is gone."""
        while self.ended is None:
            arrivals = self._arrivals
            await asyncio.sleep(_SILENCE_SEC)
            if self._arrivals != arrivals or self._bytes >= _BUFFER_BYTES:
                continue
            try:
                answer = await self._socket.ping()
                await asyncio.wait_for(answer, _ANSWER_SEC)
            except TimeoutError:
                if self._arrivals == arrivals:
                    await self._end(f"no sign of life for {_SILENCE_SEC + _ANSWER_SEC:g} s")
            except ConnectionClosed:
                return

    async def _end(self, reason: str) -> None:
        async with self._change:
            self.ended = self.ended or reason
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def connected(host: Host, request: Request) -> AsyncIterator[Connection]:
    """Open `request` on `host`. Refused where asking again will not help, JetstreamError for whatever may pass."""
    with _told(host, request):
        socket = await connect(
            request.url,
            subprotocols=[Subprotocol(request.subprotocol)] if request.subprotocol else None,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=_OPEN_TIMEOUT_SEC,
            close_timeout=_CLOSE_TIMEOUT_SEC,
            ping_interval=None,
        )
    connection = Connection(socket)
    try:
        with _told(host, request):
            if socket.subprotocol != request.subprotocol:
                raise NotOffered(f"{host.name} does not speak {request.subprotocol}")
            if request.hello:
                await socket.send(request.hello)
        yield connection
    finally:
        await connection.close()


@contextmanager
def _told(host: Host, request: Request) -> Iterator[None]:
    try:
        yield
    except InvalidStatus as error:
        raise _refusal(host, request, error.response) from error
    except (OSError, TimeoutError, UnicodeError, WebSocketException) as error:
        raise JetstreamError(f"cannot reach {host.name} ({str(error) or type(error).__name__})") from error


def _refusal(host: Host, request: Request, response: Response) -> JetstreamError | Refused:
    status = response.status_code
    text = (response.body or b"").decode(errors="replace").strip()
    message = f"{host.name} answered {status}{': ' + text[:_REASON_CHARS] if text else ''}"
    if request.subprotocol:
        name = _xrpc_error(text)
        if name in _V2_ERRORS:
            return _V2_ERRORS[name](message)
        if status in _NOT_OFFERED or (name is None and status < 500 and status not in _COME_AGAIN):
            return NotOffered(message)
    if status in _COME_AGAIN:
        return Busy(message)
    if 400 <= status < 500:
        return Refused(f"{message}; check the host and the filters")
    return JetstreamError(message)


def _xrpc_error(text: str) -> str | None:
    """The name in the JSON that every refusal of an XRPC endpoint carries."""
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    name = answer.get("error") if isinstance(answer, dict) else None
    return name if isinstance(name, str) else None
