"""Opens connections, and says what it means where a host does not let us: wait, ask otherwise, or do not ask again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from websockets.exceptions import WebSocketException

from jetstream_pipeline.jetstream import transport_frames, transport_websockets
from jetstream_pipeline.jetstream.connection import Connection, Declined
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
from jetstream_pipeline.jetstream.transport import Transport

_OPEN_TIMEOUT_SEC = 10
_REASON_CHARS = 300
_NOT_OFFERED = (404, 405, 501)
_COME_AGAIN = (429, 500, 502, 503, 504)
_OPENERS = {Transport.FRAMES: transport_frames.opened, Transport.WEBSOCKETS: transport_websockets.opened}
_V2_ERRORS = {"UnknownZstdDictionary": RetiredDictionary, "CursorTooOld": CursorTooOld}


@asynccontextmanager
async def connected(host: Host, request: Request, transport: Transport) -> AsyncIterator[Connection]:
    """Open `request` on `host`. Refused where asking again will not help, JetstreamError for whatever may pass."""
    with _told(host, request):
        connection = await _opened(request, transport)
    try:
        with _told(host, request):
            if connection.subprotocol != request.subprotocol:
                raise NotOffered(f"{host.name} does not speak {request.subprotocol}")
            if request.hello:
                await connection.send(request.hello)
        yield connection
    finally:
        await connection.close()


async def _opened(request: Request, transport: Transport) -> Connection:
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_SEC):
            return await _OPENERS[transport](request.url, request.subprotocol)
    except TimeoutError as error:
        raise TimeoutError(str(error) or "timed out during opening handshake") from error


@contextmanager
def _told(host: Host, request: Request) -> Iterator[None]:
    try:
        yield
    except Declined as error:
        raise _refusal(host, request, error) from error
    except (OSError, TimeoutError, ValueError, LookupError, WebSocketException) as error:
        # ValueError, LookupError: a redirection to what is no address, or to two of them.
        raise JetstreamError(f"cannot reach {host.name} ({str(error) or type(error).__name__})") from error


def _refusal(host: Host, request: Request, declined: Declined) -> JetstreamError | Refused:
    status = declined.status
    text = declined.body.decode(errors="replace").strip()
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
    except (ValueError, RecursionError):
        return None
    name = answer.get("error") if isinstance(answer, dict) else None
    return name if isinstance(name, str) else None
