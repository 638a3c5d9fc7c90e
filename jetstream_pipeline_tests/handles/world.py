"""A small internet: AppView, PLC directory, DNS, and one machine behind every public address."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import httpx2

from jetstream_pipeline.handles.cache import HandleCache
from jetstream_pipeline.handles.endpoints import Endpoints
from jetstream_pipeline.handles.public import public_transport
from jetstream_pipeline.handles.resolve import HandleResolver, ResolvedHandle
from jetstream_pipeline_tests.handles.names import Names, naming
from jetstream_pipeline_tests.handles.web import Page, Web, serving

ALICE = "did:plc:" + "a" * 24
BOB = "did:plc:" + "b" * 24
PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
CERTIFIED = ("alice.test", "bob.test", "elsewhere.test", "web.test")
"""Every host is the same machine, and its certificate has these names."""


@dataclass
class Routes(httpx2.AsyncBaseTransport):
    """The way to that machine, in place of the internet's. Whatever is connected to is written down."""

    port: int
    unreachable: set[str] = field(default_factory=set)
    connected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._through = public_transport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.port is None
        self.connected.append(request.url.host)
        port = 1 if request.url.host in self.unreachable else self.port
        url = request.url.copy_with(host="127.0.0.1", port=port)
        return await self._through.handle_async_request(
            httpx2.Request("GET", url, headers=request.headers, extensions=request.extensions)
        )

    async def aclose(self) -> None:
        await self._through.aclose()


@dataclass
class World:
    trusted: Web
    hosts: Web
    names: Names
    file: Path
    now: datetime = NOON
    deadline_sec: float = 30.0
    system_dns: bool = False
    """Whether the DNS server is left to the system to name."""
    connected: list[str] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)

    @property
    def endpoints(self) -> Endpoints:
        address = f"http://127.0.0.1:{self.trusted.port}"
        return Endpoints(f"{address}/", address, None if self.system_dns else self.names.server)

    def resolver(self) -> HandleResolver:
        routes = Routes(self.hosts.port, self.unreachable, self.connected)
        cache = HandleCache(self.file)
        return HandleResolver(self.endpoints, cache, lambda: self.now, self.deadline_sec, routes)

    def resolve(self, *handles: str) -> list[ResolvedHandle]:
        return asyncio.run(self.resolver().resolve(handles))

    def did_of(self, handle: str) -> str:
        (resolved,) = self.resolve(handle)
        return resolved.did

    def source_of(self, handle: str) -> str:
        (resolved,) = self.resolve(handle)
        return resolved.source

    def appview(self, handle: str, page: Page | str) -> None:
        """What the AppView says of a handle: a DID, or another page. Without it, it knows none."""
        path = f"/xrpc/com.atproto.identity.resolveHandle?handle={handle}"
        self.trusted.pages["", path] = page if isinstance(page, Page) else Page(json.dumps({"did": page}).encode())

    def appview_knows_none(self, *handles: str) -> None:
        for handle in handles:
            self.appview(handle, Page(b'{"error":"InvalidRequest","message":"Unable to resolve handle"}', 400))

    def document(self, did: str, *names: Any, **changed: Any) -> None:
        """An account's DID document: of the directory, or on the host of a did:web."""
        page = Page(json.dumps({"id": did, "alsoKnownAs": names, **changed}).encode())
        if did.startswith("did:web:"):
            self.hosts.pages[did.removeprefix("did:web:"), "/.well-known/did.json"] = page
        else:
            self.trusted.pages["", f"/{did}"] = page

    def well_known(self, handle: str, page: Page | str) -> None:
        """What the handle's own host says; it has a public address."""
        self.names.host(handle, PUBLIC)
        answer = page if isinstance(page, Page) else Page(page.encode(), headers={"Content-Type": "text/plain"})
        self.hosts.pages[handle, "/.well-known/atproto-did"] = answer

    def asked(self, handle: str) -> int:
        """How often the AppView was asked for a handle."""
        return sum(path.endswith(f"resolveHandle?handle={handle}") for _, path, _ in self.trusted.requests)


@contextmanager
def building(certificate: Path, file: Path) -> Iterator[World]:
    tls = SSLContext(PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving() as trusted, serving(tls) as hosts, naming() as names:
        world = World(trusted, hosts, names, file)
        world.appview_knows_none("alice.test", "bob.test", "stranger.test")
        yield world
