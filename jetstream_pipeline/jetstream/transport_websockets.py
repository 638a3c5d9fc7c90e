"""Connections over websockets: the reference, which can all that hosts, proxies and redirects ask for."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from jetstream_pipeline.jetstream.connection import MAX_MESSAGE_BYTES, Connection, Declined

_CLOSE_TIMEOUT_SEC = 1


async def opened(url: str, subprotocol: str | None) -> Connection:
    """An open connection. Declined, OSError, UnicodeError or WebSocketException where there is none to be had."""
    try:
        socket = await connect(
            url,
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=None,
            close_timeout=_CLOSE_TIMEOUT_SEC,
            ping_interval=None,
        )
    except InvalidStatus as error:
        raise Declined(error.response.status_code, bytes(error.response.body or b"")) from error
    return _Websockets(socket)


class _Websockets(Connection):
    def __init__(self, socket: ClientConnection) -> None:
        super().__init__()
        self.subprotocol = socket.subprotocol
        self._socket = socket
        self._room: asyncio.Future[None] | None = None
        self._follow(self._read())

    async def send(self, text: str) -> None:
        await self._socket.send(text)

    async def _read(self) -> None:
        try:
            while True:
                data = await self._socket.recv(decode=False)
                self._messages.append(data)
                self._bytes += len(data)
                if self._waiting is not None:
                    self._wake()
                if self._bytes >= self._limit:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        except ConnectionClosed as error:
            if error.sent and not error.rcvd_then_sent:
                self.oversized = error.sent.code == CloseCode.MESSAGE_TOO_BIG
            self._end(str(error))

    async def _ping(self) -> None:
        try:
            await (await self._socket.ping())
        except ConnectionClosed as error:
            self._end(str(error))

    def _go_on(self) -> None:
        room, self._room = self._room, None
        if room and not room.done():
            room.set_result(None)

    def _abort(self) -> None:
        self._socket.transport.abort()
