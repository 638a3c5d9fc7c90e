"""Who is asked for a handle's DID, in which order, and what the DID's own document says. Knows of no cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
from pydantic import BaseModel, Field, ValidationError

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.handles.endpoints import Endpoints
from jetstream_pipeline.handles.errors import NotThere, SourceFailure, Unreachable
from jetstream_pipeline.handles.fetch import Answer, get
from jetstream_pipeline.handles.lookups import Lookups
from jetstream_pipeline.handles.public import PublicWeb, public_transport
from jetstream_pipeline.handles.syntax import is_did, web_host

_MAX_ANSWER_BYTES = 64 * 1024
_MAX_DOCUMENT_BYTES = 1024 * 1024
_TEXT_PREFIX = b"did="
_SCHEME = "at://"
_SHOWN_CHARS = 80


class _Resolution(BaseModel):
    did: str


class _Document(BaseModel):
    id: str
    also_known_as: list[str] = Field(default=[], alias="alsoKnownAs")


@dataclass(frozen=True)
class Sources:
    """Everybody who can be asked. What they say counts only once `confirm` has heard the DID itself."""

    endpoints: Endpoints
    trusted: httpx2.AsyncClient
    public: PublicWeb
    lookups: Lookups
    deadline_sec: float

    def in_order(self) -> list[tuple[str, Callable[[str], Awaitable[str]]]]:
        """Name of each source, and how it is asked for a handle's DID."""
        return [("appview", self._ask_appview), ("dns", self._ask_dns), ("https", self._ask_https)]

    async def confirm(self, handle: str, did: str) -> None:
        """Pass where the DID's document names this handle first; SourceFailure otherwise."""
        try:
            named = await self._handle_of(did)
        except SourceFailure as error:
            raise type(error)(f"{did}: {error}") from error
        if named.lower() != handle:
            raise NotThere(f"{did}: its document names {_shown(named)} instead")

    async def _handle_of(self, did: str) -> str:
        host = web_host(did)
        if host:
            body = await self.public.read(f"https://{host}/.well-known/did.json", _MAX_DOCUMENT_BYTES)
        else:
            answer = await self._get(self.endpoints.plc, f"/{did}", _MAX_DOCUMENT_BYTES)
            body = answer.successful_body()
        try:
            document = _Document.model_validate_json(body)
        except ValidationError:
            raise NotThere("no document that can be read") from None
        if document.id != did:
            raise NotThere("its document is another's")
        names = [name for name in document.also_known_as if name.startswith(_SCHEME)]
        if not names:
            raise NotThere("its document names no handle")
        return names[0].removeprefix(_SCHEME)

    async def _ask_appview(self, handle: str) -> str:
        path = f"/xrpc/com.atproto.identity.resolveHandle?handle={handle}"
        answer = await self._get(self.endpoints.appview, path, _MAX_ANSWER_BYTES)
        if answer.status == 400:
            raise NotThere("knows no such handle")
        try:
            return self._checked(_Resolution.model_validate_json(answer.successful_body()).did)
        except ValidationError:
            raise Unreachable(f"{self.endpoints.appview} does not answer as an AppView does") from None

    async def _ask_dns(self, handle: str) -> str:
        texts = await self.lookups.texts(f"_atproto.{handle}")
        values = {text.removeprefix(_TEXT_PREFIX) for text in texts if text.startswith(_TEXT_PREFIX)}
        decoded = sorted(value.decode(errors="replace") for value in values)
        dids = [value for value in decoded if self._is_did(value)]
        if not decoded:
            raise NotThere("no record")
        if len(dids) > 1:
            raise NotThere(f"{len(dids)} different DIDs")
        return dids[0] if dids else self._checked(decoded[0])

    async def _ask_https(self, handle: str) -> str:
        body = await self.public.read(f"https://{handle}/.well-known/atproto-did", _MAX_ANSWER_BYTES)
        return self._checked(body.decode(errors="replace").strip())

    async def _get(self, base: str, path: str, max_bytes: int) -> Answer:
        try:
            async with asyncio.timeout(self.deadline_sec):
                return await get(self.trusted, httpx2.URL(base.rstrip("/") + path), max_bytes)
        except TimeoutError:
            raise Unreachable(f"{base} did not answer within {self.deadline_sec:g} s") from None

    def _is_did(self, text: str) -> bool:
        return is_did(text, development=self.endpoints.development)

    def _checked(self, text: str) -> str:
        if not self._is_did(text):
            raise NotThere(f"answered {_shown(text)}, which is no account's DID")
        return text


@asynccontextmanager
async def opened(
    endpoints: Endpoints, deadline_sec: float, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[Sources]:
    """The sources, for as long as their connections are open. `transport` stands in for `public_transport`."""
    lookups = Lookups(endpoints.dns, deadline_sec)
    try:
        client = httpx2.AsyncClient(timeout=None)
    except (ImportError, ValueError) as error:
        raise InvalidInput(f"the proxy that the environment names cannot be used: {error}") from error
    async with (
        client as trusted,
        httpx2.AsyncClient(transport=transport or public_transport(), timeout=None, trust_env=False) as outside,
    ):
        public = PublicWeb(outside, lookups, deadline_sec)
        yield Sources(endpoints, trusted, public, lookups, deadline_sec)


def _shown(text: str) -> str:
    """A stranger's text, fit for a line on a terminal."""
    return ascii(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")
