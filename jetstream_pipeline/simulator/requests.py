"""Requests that bear a body, read from a socket.

Those without one belong to `channel`, since each of them may turn into a websocket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs

from websockets.datastructures import Headers

from jetstream_pipeline.simulator.sockets import ByteStream
from jetstream_pipeline.simulator.subscription_v2 import XrpcRefused

_METHOD = b"POST "
_END_OF_HEAD = b"\r\n\r\n"
_LARGEST_HEAD = 65_536
_LARGEST_BODY = 2 << 20


@dataclass(frozen=True)
class HttpRequest:
    method: str
    target: str
    headers: Headers = field(repr=False)
    """They may hold a token."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def parameters(self) -> dict[str, str]:
        """The first value of each."""
        values = parse_qs(self.target.partition("?")[2], keep_blank_values=True)
        return {name: given[0] for name, given in values.items()}


async def read_beginning(stream: ByteStream) -> bytes:
    """As much as tells the method; less only at the end of the stream."""
    beginning = b""
    while len(beginning) < len(_METHOD) and (data := await stream.read()):
        beginning += data
    return beginning


def has_body(beginning: bytes) -> bool:
    return beginning.startswith(_METHOD)


async def read_request(stream: ByteStream, beginning: bytes) -> HttpRequest | None:
    """The request that begins so; None if it never ends. Raises XrpcRefused for what is no request."""
    data = beginning
    while _END_OF_HEAD not in data:
        more = await stream.read()
        if not more:
            return None
        data += more
        if len(data) > _LARGEST_HEAD:
            raise XrpcRefused(431, "InvalidRequest", "request head too large")
    head, _, body = data.partition(_END_OF_HEAD)
    method, target, headers = _read_head(head)
    length = _length(headers)
    while len(body) < length:
        more = await stream.read()
        if not more:
            return None
        body += more
    return HttpRequest(method, target, headers, body[:length])


def _read_head(head: bytes) -> tuple[str, str, Headers]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = Headers()
    try:
        method, target, _ = first.split(" ")
        for line in lines:
            name, value = line.split(":", 1)
            headers[name] = value.strip()
    except ValueError:
        raise XrpcRefused(400, "InvalidRequest", "malformed request") from None
    return method, target, headers


def _length(headers: Headers) -> int:
    given = headers.get("Content-Length", "")
    if not (given.isascii() and given.isdigit()):
        raise XrpcRefused(411, "InvalidRequest", "a Content-Length is needed")
    length = int(given)
    if length > _LARGEST_BODY:
        raise XrpcRefused(413, "TooLarge", "request body too large")
    return length
