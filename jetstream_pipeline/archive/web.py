"""Requests to one host: authorised, bounded, tried again after pauses. What answers mean is the client's to know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import httpx2

from jetstream_pipeline import __version__
from jetstream_pipeline.archive.client_errors import BadAnswer, Later, NotAllowed
from jetstream_pipeline.archive.tokens import check_token, is_loopback, is_plain, is_trusted
from jetstream_pipeline.archive.tries import Sleep, Tries, retry_after_sec
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.errors import Refused
from jetstream_pipeline.jetstream.hosts import Host

_HEADERS = {
    "User-Agent": f"jetstream_pipeline/{__version__}",
    # A compressed body's size is not known from the bytes that come.
    "Accept-Encoding": "identity",
}
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0, pool=None)
_STRETCH_BYTES = 64 * 1024
_STRETCH_SEC = 120.0
"""A body that comes more slowly than this is as good as cut."""
_MAX_REASON_BYTES = 4096
_REASON_CHARS = 200
_UNDERSTOOD = (404, 405, 412, 416, 501)
"""Answers that say something about what was asked for."""
_PASSING = (408, 425, 429)

_T = TypeVar("_T")


class Web:
    """One host's endpoints. The token goes to this host only, over TLS or within this machine, and is never shown."""

    def __init__(self, host: Host, token: str | None, sleep: Sleep) -> None:
        """InvalidInput for a token that no header can carry."""
        self.host = host
        self._token = check_token(token or "")
        self._sleep = sleep
        self._sends_token = bool(self._token) and is_trusted(host)

    async def __aenter__(self) -> Web:
        authorisation = {"Authorization": f"Bearer {self._token}"} if self._sends_token else {}
        try:
            self._client = httpx2.AsyncClient(
                timeout=_TIMEOUT,
                follow_redirects=False,
                headers=_HEADERS | authorisation,
                # No proxy is nearer than this machine, nor has one to see what goes over it in the clear.
                trust_env=not (is_plain(self.host) and is_loopback(self.host)),
            )
        except (ImportError, ValueError, OSError):
            raise InvalidInput("the proxy or the certificates that the environment names cannot be used") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def persist(self, attempt: Callable[[Tries], Awaitable[_T]]) -> _T:
        """What `attempt` brings, tried again where it raises Later."""
        tries = Tries(self._sleep)
        while True:
            try:
                return await attempt(tries)
            except Later as error:
                await tries.pause(error)

    @asynccontextmanager
    async def answered(self, method: str, endpoint: str, **request: Any) -> AsyncIterator[httpx2.Response]:
        """One attempt: an answer that says something about what was asked for, its body not yet read.

        Later where another attempt may fare better, also when that shows only while the body is read; NotAllowed,
        Refused, BadAnswer where not.
        """
        url = f"{self.host.web_address}/xrpc/network.bsky.jetstream.{endpoint}"
        try:
            async with self._client.stream(method, url, **request) as response:
                await self._check(response)
                yield response
        except TimeoutError:
            raise Later(f"{self.host.name}'s archive sends too slowly") from None
        except (httpx2.HTTPError, OSError) as error:
            raise Later(f"{self.host.name}'s archive cannot be reached ({self._told(error)})") from None

    async def chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        """The body as it comes; TimeoutError, which `answered` takes, where it comes too slowly."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise BadAnswer(f"{self.host.name}'s archive answers in an encoding that was not asked for")
        clock = asyncio.get_running_loop().time
        body = response.aiter_raw()
        deadline, came = clock() + _STRETCH_SEC, 0
        while True:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(body, None)
            if chunk is None:
                return
            came += len(chunk)
            if came >= _STRETCH_BYTES:
                deadline, came = clock() + _STRETCH_SEC, 0
            yield chunk

    async def read(self, response: httpx2.Response, max_bytes: int) -> bytes:
        """The whole body; BadAnswer where it is longer."""
        body = bytearray()
        async for chunk in self.chunks(response):
            body += chunk
            if len(body) > max_bytes:
                raise BadAnswer(f"{self.host.name}'s archive sends more than {max_bytes} bytes, which nothing here has")
        return bytes(body)

    async def _check(self, response: httpx2.Response) -> None:
        status, said = response.status_code, f"{self.host.name}'s archive answered {response.status_code}"
        if response.is_success or status in _UNDERSTOOD:
            return
        if status in (401, 403):
            raise self._not_allowed(status)
        if status in _PASSING or status >= 500:
            raise Later(said, retry_after_sec(response.headers))
        if response.has_redirect_location:
            raise BadAnswer(f"{said}, a redirect, which is not followed")
        if 400 <= status < 500:
            raise Refused(f"{said}{await self._reason(response)}")
        raise BadAnswer(f"{said}, which nothing here asks for")

    def _not_allowed(self, status: int) -> NotAllowed:
        name = self.host.name
        if not self._token:
            return NotAllowed(f"{name} wants a token for its archive (answered {status}): set JETSTREAM_API_TOKEN")
        if not self._sends_token:
            return NotAllowed(
                f"{name} wants a token for its archive (answered {status}), and JETSTREAM_API_TOKEN is not sent in the "
                f"clear: write wss://{name}"
            )
        return NotAllowed(
            f"{name} does not take the token for its archive (answered {status}): set another JETSTREAM_API_TOKEN"
        )

    async def _reason(self, response: httpx2.Response) -> str:
        """What the host says of its refusal, where it says so in the protocol's way."""
        try:
            said = json.loads(await self.read(response, _MAX_REASON_BYTES))
            return f": {self._told(said['message'])}" if said["message"] else ""
        except (BadAnswer, ValueError, KeyError, TypeError, RecursionError):
            return ""

    def _told(self, said: object) -> str:
        """A text of strangers in one line, without the token, should they repeat it."""
        text = str(said) or type(said).__name__
        if self._token:
            text = text.replace(self._token, "[token]")
        return ascii(text)[1:-1][:_REASON_CHARS]
