"""The client of an archive's four endpoints: what there is, what of it to download, and its bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pydantic import BaseModel

from jetstream_pipeline.archive.answers import (
    LIST_LIMIT,
    ListedSegment,
    ListPage,
    PlanPage,
    parse,
)
from jetstream_pipeline.archive.client_errors import BadAnswer, NoArchive
from jetstream_pipeline.archive.disk import claimed, in_thread
from jetstream_pipeline.archive.errors import ArchiveError
from jetstream_pipeline.archive.plans import Plan, Unit, filters, merged
from jetstream_pipeline.archive.transfer import Transfer, check_version, etag
from jetstream_pipeline.archive.tries import Sleep, Tries
from jetstream_pipeline.archive.web import Web
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription

Verify = Callable[[Path], None]

_MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Twice what a server's largest page of a plan takes."""
_MAX_BLOCK_BYTES = 64 * 1024 * 1024
"""Thousands of records of the usual size are less than one megabyte."""
_MAX_PAGES = 100_000
_MAX_SEGMENTS = 1_000_000
_NOT_THERE = (404, 405, 501)
_ZSTD_MAGIC = bytes.fromhex("28b52ffd")
_BLOCK_ETAG = re.compile(r"([0-9a-f]{16})(?::[0-9]+)?")

_Model = TypeVar("_Model", bound=BaseModel)


def taken_as_it_is(path: Path) -> None:
    """Verifies nothing."""


class Archive:
    """One host's archive, as an async context manager. Every call may be made many times at once.

    What passes (a host that is busy, gone or cut off) is tried again after pauses, a few times. Errors, besides
    ArchiveError where that was in vain: NoArchive, NotAllowed, BadAnswer, and Refused.
    """

    def __init__(self, host: Host, token: str | None = None, *, sleep: Sleep = asyncio.sleep) -> None:
        """`token`: what the hosted archives want to see; InvalidInput where it is none."""
        self._name = host.name
        self._web = Web(host, token, sleep)

    async def __aenter__(self) -> Archive:
        await self._web.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._web.__aexit__(kind, error, trace)

    async def segments(self) -> list[ListedSegment]:
        """All sealed segments, in stream order."""
        found: list[ListedSegment] = []
        cursor: str | None = None
        while True:
            asked = {"limit": str(LIST_LIMIT)} | ({} if cursor is None else {"cursor": cursor})
            page = await self._json(ListPage, "GET", "listSegments", params=asked)
            last = found[-1].index if found else -1
            for segment in page.segments:
                if segment.index <= last:
                    raise BadAnswer(f"{self._name}'s archive lists segment {segment.index} after {last}")
                last = segment.index
            found.extend(page.segments)
            cursor = page.cursor
            if not cursor:
                return found
            if not page.segments or len(found) > _MAX_SEGMENTS:
                raise BadAnswer(f"{self._name}'s archive has no end: after {len(found)} segments it promises more")

    async def plan(self, subscription: Subscription, after_seq: int = 0, before_seq: int | None = None) -> Plan:
        """What to download for all that is wanted from `after_seq` (excluded) to `before_seq` (included) or the tip.

        The plan ends at the lesser of `before_seq` and the tip that the host had when it was first asked.
        """
        if before_seq is not None and before_seq <= after_seq:
            raise ValueError(f"nothing lies after {after_seq} and not after {before_seq}")
        wanted = filters(subscription)
        units: list[Unit] = []
        tip: int | None = None
        for _ in range(_MAX_PAGES):
            bounds = {"afterSeq": after_seq} | ({} if before_seq is None else {"beforeSeq": before_seq})
            page = await self._json(PlanPage, "POST", "planSnapshot", json=wanted | bounds)
            units.extend(map(Unit.of, page.segments))
            if tip is None:
                tip = before_seq = page.sealed_tip_seq
            if page.planned_through_seq >= tip:
                return Plan(merged(units), tip)
            if page.planned_through_seq <= after_seq or len(units) > _MAX_SEGMENTS:
                break
            after_seq = page.planned_through_seq
        raise BadAnswer(f"{self._name}'s plan comes to no end: planned from {after_seq} on, it should reach {tip}")

    async def fetch_segment(self, unit: Unit, target: Path, *, verify: Verify = taken_as_it_is) -> None:
        """Have a unit's whole segment at `target`, durable; nothing is done where it is there.

        What comes is kept beside `target` from the first byte on, and gone on with by whoever wants it next. `verify`
        is called in a thread with the file before it is `target`; what raises an ArchiveError there is downloaded
        once more, from its beginning. StalePlan where the host has another version by now; StorageError.
        """
        path = target.parent / f".{unit.name}-{unit.checksum}.part"
        async with claimed(path, target) as beginning:
            if beginning is None:
                return
            transfer = Transfer(self._web, unit, beginning)
            for attempts_left in (1, 0):
                await self._web.persist(transfer.go_on)
                try:
                    await in_thread(verify, path)
                    break
                except ArchiveError:
                    beginning.restart()
                    if not attempts_left:
                        raise
            await in_thread(beginning.finish, target)

    async def block(self, unit: Unit, number: int) -> bytes:
        """One block of a unit's segment: its zstd frame as it lies in the file, at most 64 MiB."""
        return await self._web.persist(partial(self._block, unit, number))

    async def _block(self, unit: Unit, number: int, _: Tries) -> bytes:
        asked = {"segment": unit.name, "blockIndex": str(number)}
        async with self._web.answered("GET", "getBlock", params=asked) as response:
            said = _BLOCK_ETAG.fullmatch(etag(response))
            check_version(self._name, unit, response, said[1] if said else unit.checksum)
            content = await self._web.read(response, _MAX_BLOCK_BYTES)
        if response.status_code != 200 or not content.startswith(_ZSTD_MAGIC):
            raise BadAnswer(f"{self._name} sends something as block {number} of {unit.name} that is none")
        return content

    async def _json(self, model: type[_Model], method: str, endpoint: str, **request: Any) -> _Model:
        async def attempt(_: Tries) -> _Model:
            async with self._web.answered(method, endpoint, **request) as response:
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if response.status_code in _NOT_THERE or (response.is_success and kind != "application/json"):
                    raise NoArchive(self._name)
                body = await self._web.read(response, _MAX_ANSWER_BYTES)
                return parse(model, body, f"{self._name}'s {endpoint}")

        return await self._web.persist(attempt)
