"""Connections over picows: plain messages fast, and everything else by the rules that websockets keeps to.

What picows cannot open is left to `transport_websockets`: proxies, redirects, and answers that picows does not read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from picows import (
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSParsedURL,
    WSProtocolError,
    WSTransport,
    ws_connect,
)
from websockets.exceptions import ConnectionClosed, InvalidMessage, NegotiationError, ProtocolError
from websockets.frames import Close, CloseCode

from jetstream_pipeline import __version__
from jetstream_pipeline.jetstream import transport_websockets
from jetstream_pipeline.jetstream.connection import MAX_MESSAGE_BYTES, Connection, Declined

_CLOSE_TIMEOUT_SEC = 1
_PROXIES = {"ws": ("ws", "socks", "https", "http"), "wss": ("wss", "socks", "https")}
"""Whose proxy is taken, as websockets does."""
_LOGGER = logging.Logger("picows", logging.CRITICAL + 1)
"""What it would say is told by how a connection ends."""

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_PONG, _CLOSE = WSMsgType.PONG, WSMsgType.CLOSE


async def opened(url: str, subprotocol: str | None) -> Connection:
    """An open connection. Declined, OSError, UnicodeError or WebSocketException where there is none to be had."""
    if not url.isascii() or _proxied(url):
        return await transport_websockets.opened(url, subprotocol)
    connection = _Picows()
    try:
        await connection.open(url, subprotocol)
    except WSError as error:
        if isinstance(error, WSHandshakeError) and (declined := _declined(error)):
            raise declined from error
        return await transport_websockets.opened(url, subprotocol)
    return connection


class _Picows(Connection, WSListener):
    def __init__(self) -> None:
        super().__init__()
        self._transport: WSTransport | None = None
        self._plain = True
        """Whether what comes next can be a whole message: neither within a fragmented one, nor at the end."""
        self._fragments = bytearray()
        self._over = False
        self._paused = False
        self._answer: asyncio.Future[None] | None = None

    async def open(self, url: str, subprotocol: str | None) -> None:
        headers = {"User-Agent": f"jetstream_pipeline/{__version__}"}
        if subprotocol:
            headers["Sec-WebSocket-Protocol"] = subprotocol
        secure = url.startswith("wss:")
        reached: socket.socket | None = None

        async def reach(address: WSParsedURL) -> socket.socket:
            nonlocal reached
            reached = await _reached(address.host, address.port)
            return reached

        try:
            await ws_connect(
                lambda request, response: self,
                url,
                ssl_context=ssl.create_default_context() if secure else None,
                websocket_handshake_timeout=None,
                logger_name=_LOGGER,
                max_frame_size=MAX_MESSAGE_BYTES,
                extra_headers=headers,
                max_redirects=0,
                socket_factory=reach,
                use_aiofastnet=False,
                ssl_shutdown_timeout=_CLOSE_TIMEOUT_SEC if secure else None,
            )
            if self._transport is None:
                raise InvalidMessage("did not receive a valid HTTP response")
            self.subprotocol = _negotiated(self._transport, subprotocol)
        except BaseException:
            if reached:
                # Its transport, which is picows' until the handshake is done, ends with it.
                with suppress(OSError):
                    reached.shutdown(socket.SHUT_RDWR)
            raise
        self._follow(self._last(self._transport))

    async def send(self, text: str) -> None:
        assert self._transport
        self._transport.send(_TEXT, text.encode())

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if (
            (kind is _TEXT or kind is _BINARY)
            and self._plain
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            data = frame.get_payload_as_bytes()
            self._messages.append(data)
            self._bytes += len(data)
            if self._waiting is not None:
                self._wake()
            if self._bytes >= self._limit:
                self._pause(transport)
        elif not self._over:
            self._take_in(transport, frame, kind)

    def _take_in(self, transport: WSTransport, frame: WSFrame, kind: WSMsgType) -> None:
        """Whatever is not a whole message. Pings are answered by picows."""
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._break_off(transport, CloseCode.PROTOCOL_ERROR, "reserved bits must be 0")
        elif kind is _CLOSE:
            self._farewell(transport, frame.get_payload_as_bytes())
        elif kind is _PONG:
            if self._answer and not self._answer.done():
                self._answer.set_result(None)
        elif self._plain and kind is _CONTINUATION:
            self._break_off(transport, CloseCode.PROTOCOL_ERROR, "unexpected continuation frame")
        elif not self._plain and kind is not _CONTINUATION:
            self._break_off(transport, CloseCode.PROTOCOL_ERROR, "expected a continuation frame")
        elif len(self._fragments) + frame.payload_size > MAX_MESSAGE_BYTES:
            reason = f"fragments of more than {MAX_MESSAGE_BYTES} bytes"
            self._break_off(transport, CloseCode.MESSAGE_TOO_BIG, reason)
        else:
            self._fragments += frame.get_payload_as_memoryview()
            self._plain = bool(frame.fin)
            if frame.fin:
                self._messages.append(bytes(self._fragments))
                self._bytes += len(self._fragments)
                self._fragments = bytearray()
                self._wake()
                if self._bytes >= self._limit:
                    self._pause(transport)

    def _farewell(self, transport: WSTransport, payload: bytes) -> None:
        try:
            close = Close.parse(payload)
        except (ProtocolError, UnicodeDecodeError) as error:
            self._break_off(transport, CloseCode.PROTOCOL_ERROR, str(error))
            return
        self._over, self._plain = True, False
        transport.send(_CLOSE, payload)
        self._end(str(ConnectionClosed(close, close, True)))

    def _break_off(self, transport: WSTransport, code: CloseCode, reason: str) -> None:
        self._over, self._plain = True, False
        transport.send(_CLOSE, Close(code, reason).serialize())
        self._broken_off(code, reason)

    def _broken_off(self, code: int, reason: str) -> None:
        self.oversized = code == CloseCode.MESSAGE_TOO_BIG
        self._end(str(ConnectionClosed(None, Close(code, reason))))

    async def _last(self, transport: WSTransport) -> None:
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            self._broken_off(int(error.code), str(error))
        else:
            self._end(str(ConnectionClosed(None, None)))

    async def _ping(self) -> None:
        assert self._transport
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.send_ping()
        await self._answer

    def _pause(self, transport: WSTransport) -> None:
        """What has been read from the socket already is still to come: some megabytes at most."""
        if not self._paused:
            self._paused = True
            transport.underlying_transport.pause_reading()

    def _go_on(self) -> None:
        if self._paused and self._transport:
            self._paused = False
            self._transport.underlying_transport.resume_reading()

    def _abort(self) -> None:
        if self._transport:
            self._transport.disconnect(graceful=False)


def _proxied(url: str) -> bool:
    parts = urlsplit(url)
    if proxy_bypass(f"{parts.hostname}:{parts.port or {'ws': 80, 'wss': 443}[parts.scheme]}"):
        return False
    proxies = getproxies()
    return any(name in proxies for name in _PROXIES[parts.scheme])


async def _reached(host: str, port: int) -> socket.socket:
    """A socket connected to the first of the host's addresses that takes it."""
    loop = asyncio.get_running_loop()
    errors = []
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.setblocking(False)
            await loop.sock_connect(candidate, address)
        except OSError as error:
            candidate.close()
            errors.append(str(error))
        except BaseException:
            candidate.close()
            raise
        else:
            return candidate
    raise OSError(", ".join(dict.fromkeys(errors)))


def _negotiated(transport: WSTransport, subprotocol: str | None) -> str | None:
    """The subprotocol that the host chose; NegotiationError where it speaks of what nobody offered."""
    headers = transport.response.headers
    if "Sec-WebSocket-Extensions" in headers:
        raise NegotiationError("no extensions supported")
    chosen = ", ".join(headers.getall("Sec-WebSocket-Protocol", ())) or None
    if chosen not in (None, subprotocol):
        raise NegotiationError(f"unsupported subprotocol: {chosen.encode(errors='replace').decode()}")
    return chosen


def _declined(error: WSHandshakeError) -> Declined | None:
    """A host's refusal, where all of it has come that matters; redirects are none."""
    response = error.response
    if response is None or response.status == 101 or 300 <= response.status < 400:
        return None
    body = error.raw_body or b""
    length = response.headers.get("Content-Length", "")
    whole = length.isdecimal() and len(body) >= int(length)
    leave_alone = response.status == 429 or response.status >= 500
    if not (whole or leave_alone):
        return None
    return Declined(response.status, body[: int(length)] if length.isdecimal() else b"")
