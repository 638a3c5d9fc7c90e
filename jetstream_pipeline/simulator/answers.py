"""HTTP answers: their heads, what conditions and ranges make of a download, and how a large body is sent.

Which request gets which answer belongs to `handshake` and `archive_api`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Response

from jetstream_pipeline.simulator.faults import Refuse
from jetstream_pipeline.simulator.sockets import ByteStream

PLAIN, JSON, BINARY = "text/plain; charset=utf-8", "application/json", "application/octet-stream"
_STATUSES = frozenset(HTTPStatus)
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_BYTES_PER_WRITE = 1 << 20
_PATIENCE_SECONDS = 60.0
"""How long the other side of a download may take nothing."""

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """An answer that may be too large for one write."""

    response: Response
    """Without a body."""
    body: memoryview

    async def send(self, stream: ByteStream, *, cut_after: int | None = None) -> None:
        """Others get their turn meanwhile. `cut_after` so many bytes of the body the connection ends: raises Ended."""
        stream.patience = max(stream.patience, _PATIENCE_SECONDS)
        await stream.write(self.response.serialize())
        stream.bytes_left = cut_after
        for start in range(0, len(self.body), _BYTES_PER_WRITE):
            await stream.write(self.body[start : start + _BYTES_PER_WRITE])
            await asyncio.sleep(0)


def answered(status: int, body: bytes | memoryview, content_type: str, headers: Fields = ()) -> Answer:
    return Answer(Response(status, _phrase(status), _fields(len(body), content_type, headers)), memoryview(body))


def respond(status: int, body: bytes, content_type: str, headers: Fields = ()) -> Response:
    return Response(status, _phrase(status), _fields(len(body), content_type, headers), body)


def refusal(fault: Refuse) -> Response:
    """What a server says that refuses on purpose."""
    headers = [] if fault.retry_after is None else [("Retry-After", str(fault.retry_after))]
    return respond(fault.status, fault.body.encode(), JSON if fault.body.startswith("{") else PLAIN, headers)


def download(content: memoryview, tag: str, asked: Headers) -> Answer:
    """The content, or what the request's conditions and range leave of it. `tag` is its entity tag without quotes."""
    quoted = f'"{tag}"'
    known = [("ETag", quoted), ("Accept-Ranges", "bytes"), ("Cache-Control", "public, no-cache")]
    if "If-Match" in asked and not _names(asked, "If-Match", quoted):
        return answered(412, b"", BINARY, known)
    if _names(asked, "If-None-Match", quoted):
        return answered(304, b"", BINARY, known)
    found = _RANGE.fullmatch(",".join(asked.get_all("Range")).strip())
    if found is None or not any(found.groups()) or asked.get("If-Range", quoted) != quoted:
        return answered(200, content, BINARY, known)
    part = _part(found[1], found[2], len(content))
    if not part:
        outside = [("Content-Range", f"bytes */{len(content)}"), *known]
        return answered(416, b"invalid range: failed to overlap\n", PLAIN, outside)
    place = ("Content-Range", f"bytes {part.start}-{part.stop - 1}/{len(content)}")
    return answered(206, content[part.start : part.stop], BINARY, [place, *known])


def _part(first: str, last: str, size: int) -> range:
    """The bytes of a range, of which the last is included; without a first, the last so many."""
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(size, int(last) + 1) if last else size)


def _names(asked: Headers, condition: str, tag: str) -> bool:
    tags = [one.strip() for one in ",".join(asked.get_all(condition)).split(",")]
    return tag in tags or "*" in tags


def _fields(length: int, content_type: str, headers: Fields) -> Headers:
    return Headers(
        [
            ("Date", formatdate(usegmt=True)),
            ("Connection", "close"),
            ("Content-Length", str(length)),
            ("Content-Type", content_type),
            *headers,
        ]
    )


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in _STATUSES else ""
