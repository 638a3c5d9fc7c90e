"""Where compression dictionaries come from: the user, a cache, the host (v2), the server's public repository (v1)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

import httpx2

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.compression import Dictionary
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.hosts import Host

V1_SHA256 = "b8d77b46933aceecbdd5275a01241efc985c970c78162b8150cf67a26522f70c"
V1_URL = (
    "https://raw.githubusercontent.com/bluesky-social/jetstream/main"
    "/internal/subscribe/dictionaries/legacy_subscribe.zdict"
)
"""The dictionary of every v1 host lies in the server's source; no endpoint serves it."""

_V1_KEY = "v1.zdict"
_V2_PATH = "/xrpc/network.bsky.jetstream.getZstdDictionary"
_TIMEOUT_SEC = 10.0
_PATIENCE_SEC = 60.0
"""For all of it."""
_MAX_BYTES = 4 * 1024 * 1024


class NoDictionary(JetstreamError):
    """No dictionary is to be had: the stream goes on uncompressed."""


class Dictionaries:
    """Finds a host's dictionary and remembers it in `cache`, by name, from one run to the next."""

    def __init__(self, cache: MutableMapping[str, bytes], *, v1_file: Path | None = None, v1_url: str = V1_URL) -> None:
        """`v1_file` is taken as it is, for hosts whose dictionary is their own. InvalidInput where it is none."""
        self._cache = cache
        self._v1_url = v1_url
        self._given = None if v1_file is None else _read(v1_file)

    async def find(self, host: Host, wire: Wire) -> Dictionary:
        """The dictionary to ask `host` for. NoDictionary where none can be had."""
        if wire is Wire.V1:
            return self._given or self._cached(_V1_KEY, V1_SHA256) or await self._fetch_v1()
        return self._cached(_v2_key(host)) or await self.renew(host)

    async def renew(self, host: Host) -> Dictionary:
        """The dictionary that a v2 host has now, after it retired the one that we had."""
        content = await _fetch(f"{host.web_address}{_V2_PATH}")
        dictionary = _dictionary(content, host.name)
        self._keep(_v2_key(host), content)
        return dictionary

    def forget(self, host: Host) -> None:
        """Fetch a v2 host's dictionary anew the next time: the one that we have is not that which it uses."""
        with suppress(PipelineError, KeyError):
            del self._cache[_v2_key(host)]

    async def _fetch_v1(self) -> Dictionary:
        content = await _fetch(self._v1_url)
        if hashlib.sha256(content).hexdigest() != V1_SHA256:
            raise NoDictionary(f"{self._v1_url} is not the dictionary of Jetstream's v1 stream: its checksum differs")
        self._keep(_V1_KEY, content)
        return _dictionary(content, self._v1_url)

    def _keep(self, key: str, content: bytes) -> None:
        # Whoever cannot keep it fetches it again: compression is never a reason to fail.
        with suppress(PipelineError):
            self._cache[key] = content

    def _cached(self, key: str, sha256: str | None = None) -> Dictionary | None:
        with suppress(PipelineError, KeyError, ValueError):
            content = self._cache[key]
            if sha256 is None or hashlib.sha256(content).hexdigest() == sha256:
                return Dictionary(content)
        return None


def _v2_key(host: Host) -> str:
    return f"v2-{host.name.replace(':', '_')}.zdict"


def _read(path: Path) -> Dictionary:
    try:
        return Dictionary(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"JETSTREAM_ZSTD_DICTIONARY: cannot read a dictionary from {path}: {reason}") from None


def _dictionary(content: bytes, source: str) -> Dictionary:
    try:
        return Dictionary(content)
    except ValueError as error:
        raise NoDictionary(f"{source} sent something that is {error}") from None


async def _fetch(url: str) -> bytes:
    content = bytearray()
    try:
        async with (
            asyncio.timeout(_PATIENCE_SEC),
            httpx2.AsyncClient(timeout=_TIMEOUT_SEC, follow_redirects=True) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise NoDictionary(f"{url} sends more than {_MAX_BYTES} bytes, which no dictionary has")
    except httpx2.HTTPStatusError as error:
        raise NoDictionary(f"{url} answered {error.response.status_code}") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NoDictionary(f"cannot fetch {url} ({str(error) or type(error).__name__})") from None
    return bytes(content)
