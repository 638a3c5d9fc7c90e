"""Fetching from hosts that strangers named: https to public addresses only, at most a few redirects.

Each host is looked up once, every address of the answer must be public, and the connection goes to one of those very
addresses, so that no second answer of its DNS can lead elsewhere. Trusted services are not asked through here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx2

from jetstream_pipeline.handles.addresses import Address, is_public
from jetstream_pipeline.handles.errors import NotThere, SourceFailure, Unreachable
from jetstream_pipeline.handles.fetch import Answer, get
from jetstream_pipeline.handles.lookups import Lookups
from jetstream_pipeline.handles.syntax import is_hostname

_MAX_REDIRECTS = 3
_MAX_ADDRESSES = 3
_HTTPS_PORT = 443


def public_transport() -> httpx2.AsyncHTTPTransport:
    """Connections are never used twice: to the pool, all hosts of one address are one, whatever their certificates."""
    return httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_keepalive_connections=0))


@dataclass(frozen=True)
class PublicWeb:
    """The public internet, through a client whose transport is `public_transport` or stands in for it."""

    client: httpx2.AsyncClient
    lookups: Lookups
    deadline_sec: float

    async def read(self, url: str, max_bytes: int) -> bytes:
        """The body at `url` or where it redirects to."""
        try:
            async with asyncio.timeout(self.deadline_sec):
                return await self._follow(httpx2.URL(url), max_bytes)
        except TimeoutError:
            raise Unreachable(f"no answer within {self.deadline_sec:g} s") from None

    async def _follow(self, url: httpx2.URL, max_bytes: int) -> bytes:
        for _ in range(1 + _MAX_REDIRECTS):
            answer = await self._ask(url, max_bytes)
            if answer.location is None:
                return answer.successful_body()
            try:
                url = url.join(answer.location)
            except (httpx2.InvalidURL, ValueError):
                raise NotThere("redirects to what is no address") from None
        raise NotThere(f"redirects more than {_MAX_REDIRECTS} times")

    async def _ask(self, url: httpx2.URL, max_bytes: int) -> Answer:
        host = url.raw_host.decode("ascii").lower()
        if url.scheme != "https" or url.port not in (None, _HTTPS_PORT) or not is_hostname(host):
            raise NotThere("redirects to other than https://HOST/…")
        failure: SourceFailure | None = None
        for address in await self._public_addresses(host):
            # Built anew: a user name or password in a stranger's address would be sent.
            target = httpx2.URL(scheme="https", host=str(address), raw_path=url.raw_path)
            try:
                return await get(
                    self.client, target, max_bytes, headers={"Host": host}, extensions={"sni_hostname": host}
                )
            except Unreachable as error:
                failure = error
        assert failure
        raise failure

    async def _public_addresses(self, host: str) -> list[Address]:
        addresses = await self.lookups.addresses(host)
        if not all(map(is_public, addresses)):
            raise NotThere(f"{host} is not on the public internet")
        return addresses[:_MAX_ADDRESSES]
