"""Connections over websockets: the reference, which takes message by message. How any connection over it is opened and
ends."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Generic, TypeVar

import websockets.asyncio.client
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from jetstream_pipeline.jetstream.connection import MAX_MESSAGE_BYTES, Connection, Declined
from jetstream_pipeline.jetstream.intake import Intake

_CLOSE_TIMEOUT_SEC = 1

Socket = TypeVar("Socket", bound=ClientConnection)


async def opened(url: str, subprotocol: str | None) -> Connection:
    """An open connection. Declined, OSError, ValueError, LookupError or WebSocketException where there is none."""
    return _MessageByMessage(await connect(url, subprotocol, ClientConnection))


async def connect(url: str, subprotocol: str | None, kind: type[Socket]) -> Socket:
    """What `opened` says of a connection, as websockets knows it."""
    try:
        socket = await websockets.asyncio.client.connect(
            url,
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=None,
            close_timeout=_CLOSE_TIMEOUT_SEC,
            ping_interval=None,
            create_connection=kind,
        )
    except InvalidStatus as error:
        raise Declined(error.response.status_code, bytes(error.response.body or b"")) from error
    assert isinstance(socket, kind)
    return socket


class Websockets(Connection, Generic[Socket]):
    """A connection whose `_read` raises ConnectionClosed in the end."""

    def __init__(self, socket: Socket, intake: Intake) -> None:
        super().__init__(intake)
        self.subprotocol = socket.subprotocol
        self._socket = socket
        self._follow(self._read_all())

    async def send(self, text: str) -> None:
        await self._socket.send(text)

    @abstractmethod
    async def _read(self) -> None: ...

    async def _read_all(self) -> None:
        try:
            await self._read()
        except ConnectionClosed as error:
            if error.sent and not error.rcvd_then_sent:
                self.oversized = error.sent.code == CloseCode.MESSAGE_TOO_BIG
            self._end(str(error))

    async def _ping(self) -> None:
        try:
            await (await self._socket.ping())
        except ConnectionClosed as error:
            self._end(str(error))

    def _abort(self) -> None:
        self._socket.transport.abort()


class _MessageByMessage(Websockets[ClientConnection]):
    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket, Intake())
        self._room: asyncio.Future[None] | None = None

    async def _read(self) -> None:
        while True:
            self._intake.add(await self._socket.recv(decode=False))
            if self._waiting is not None:
                self._wake()
            if self._intake.size >= self._limit:
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    def _go_on(self) -> None:
        room, self._room = self._room, None
        if room and not room.done():
            room.set_result(None)
