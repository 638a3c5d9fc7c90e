"""From handles to DIDs: what is known, whom to ask for the rest, and one error for all that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx2

from jetstream_pipeline.handles.cache import Attempt, HandleCache
from jetstream_pipeline.handles.endpoints import Endpoints
from jetstream_pipeline.handles.errors import HandlesUnreachable, SourceFailure, UnresolvedHandles
from jetstream_pipeline.handles.syntax import parse_handle

if TYPE_CHECKING:
    from jetstream_pipeline.handles.sources import Sources

_MAX_AT_ONCE = 10
_DEADLINE_SEC = 5.0


@dataclass(frozen=True)
class ResolvedHandle:
    """A handle that its account claims too: `source` (appview, dns or https) said so at `checked_at`."""

    handle: str
    did: str
    source: str
    checked_at: datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class HandleResolver:
    """Resolves handles, and keeps what it found in `cache`."""

    endpoints: Endpoints
    cache: HandleCache
    clock: Callable[[], datetime] = _now
    deadline_sec: float = _DEADLINE_SEC
    """For each request to anybody."""
    transport: httpx2.AsyncBaseTransport | None = None
    """How a host that a stranger named is reached, once its address is known to be public."""

    async def resolve(self, handles: Iterable[str]) -> list[ResolvedHandle]:
        """Each handle once, in the order given.

        InvalidInput where one is none, UnresolvedHandles where one is nobody's, HandlesUnreachable where it is only
        that not everybody could be asked; the latter two name all that failed.
        """
        wanted = self._parsed(handles)
        known = await asyncio.to_thread(self.cache.fresh, wanted, self.endpoints, self.clock())
        missing = [handle for handle in wanted if handle not in known]
        if missing:
            found = await self._ask(missing)
            known.update((attempt.handle, attempt) for attempt in found)
        attempts = [known[handle] for handle in wanted]
        _raise_failed([attempt for attempt in attempts if attempt.did is None])
        return [
            ResolvedHandle(attempt.handle, attempt.did, attempt.source or "", attempt.checked_at)
            for attempt in attempts
            if attempt.did is not None
        ]

    def _parsed(self, handles: Iterable[str]) -> list[str]:
        development = self.endpoints.development
        return list(dict.fromkeys(parse_handle(text, development=development) for text in handles))

    async def _ask(self, handles: Sequence[str]) -> list[Attempt]:
        # DNS takes long to import, and every run's process would: most streams name no handle.
        from jetstream_pipeline.handles.sources import opened

        places = asyncio.Semaphore(_MAX_AT_ONCE)

        async def attempt(sources: Sources, handle: str) -> Attempt:
            async with places:
                made = await self._attempt(sources, handle)
                await asyncio.to_thread(self.cache.add, made)
                return made

        async with opened(self.endpoints, self.deadline_sec, self.transport) as sources:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(attempt(sources, handle)) for handle in handles]
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _attempt(self, sources: Sources, handle: str) -> Attempt:
        failures: list[tuple[str, SourceFailure]] = []
        did = source = None
        for name, ask in sources.in_order():
            try:
                candidate = await ask(handle)
                await sources.confirm(handle, candidate)
                did, source = candidate, name
                break
            except SourceFailure as error:
                failures.append((name, error))
        return Attempt(
            handle=handle,
            did=did,
            source=source,
            checked_at=self.clock(),
            reason=None if did else ", ".join(f"{name}: {error}" for name, error in failures),
            passing=did is None and any(error.passing for _, error in failures),
            appview=self.endpoints.appview,
            plc=self.endpoints.plc,
            dns=self.endpoints.dns,
        )


def _raise_failed(failed: Sequence[Attempt]) -> None:
    if not failed:
        return
    what = "a handle" if len(failed) == 1 else f"{len(failed)} handles"
    listed = "; ".join(f"{attempt.handle} ({attempt.reason})" for attempt in failed)
    if all(attempt.passing for attempt in failed):
        raise HandlesUnreachable(f"could not resolve {what}: {listed}; try again in a minute")
    raise UnresolvedHandles(f"could not resolve {what}: {listed}; check the spelling, or try again in a minute")
