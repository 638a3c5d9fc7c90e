"""One bounded GET over HTTP, redirects not followed. Whether an address may be fetched is the caller's to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from jetstream_pipeline import __version__
from jetstream_pipeline.handles.errors import NotThere, Unreachable

_HEADERS = {
    "User-Agent": f"jetstream_pipeline/{__version__}",
    # A compressed body's size is not known from the bytes that come.
    "Accept-Encoding": "identity",
}
_TOO_MANY_REQUESTS = 429
_REASON_CHARS = 120


@dataclass(frozen=True)
class Answer:
    """A response; `location` where it is a redirect."""

    status: int
    location: str | None
    body: bytes

    def successful_body(self) -> bytes:
        """The body of a 2xx; Unreachable where a later attempt may have one."""
        if 200 <= self.status < 300:
            return self.body
        if not 400 <= self.status < 500 or self.status == _TOO_MANY_REQUESTS:
            raise Unreachable(f"answered {self.status}")
        raise NotThere(f"answered {self.status}")


async def get(
    client: httpx2.AsyncClient,
    url: httpx2.URL,
    max_bytes: int,
    *,
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, str] | None = None,
) -> Answer:
    """The answer as it came, its body at most `max_bytes` long."""
    try:
        async with client.stream(
            "GET",
            url,
            headers={**_HEADERS, **(headers or {})},
            extensions=dict(extensions or {}),
            follow_redirects=False,
        ) as response:
            location = response.headers["location"] if response.has_redirect_location else None
            body = b"" if location is not None else await _read(response, max_bytes)
            return Answer(response.status_code, location, body)
    except httpx2.HTTPError as error:
        reason = ascii(str(error) or type(error).__name__)[1:-1][:_REASON_CHARS]
        raise Unreachable(f"cannot be reached ({reason})") from error


async def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise NotThere(f"answered more than {max_bytes // 1024} KiB")
    return bytes(body)
