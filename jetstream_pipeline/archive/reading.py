"""The rows of a stretch of an archive, in stream order, whatever its server does to it meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.answers import ListedSegment
from jetstream_pipeline.archive.block import Wanted
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.client_errors import StalePlan
from jetstream_pipeline.archive.decoding import decoded_blocks
from jetstream_pipeline.archive.disk import in_thread
from jetstream_pipeline.archive.downloads import Fetched, fetched
from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.archive.frames import Frame
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.archive.segment import open_segment
from jetstream_pipeline.events.decode import CLOCK_SLACK_US
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription

_FRUITLESS = 3
"""Plans in a row that bring nothing: the archive changes meanwhile, or sends what is damaged."""


class Reading:
    """Plans, downloads and decodes. `after`: up to which sequence number (included) it has come."""

    def __init__(
        self, archive: Archive, host: Host, access: Access, listed: Sequence[ListedSegment], from_us: int = 0
    ) -> None:
        """`from_us`: blocks that were witnessed before it need no decoding (unix microseconds)."""
        self.after = 0
        self._archive = archive
        self._host = host.name
        self._access = access
        self._sizes = {one.checksum: one.size_bytes for one in listed}
        self._from_us = from_us

    async def parts(self, subscription: Subscription, after: int, through: int) -> AsyncGenerator[Part, None]:
        """A subscription's events between two sequence numbers (exclusive, inclusive)."""
        self.after = after

        def wanted() -> Wanted:
            return partial(_between, self.after, through, subscription)

        fruitless = 0
        while self.after < through:
            before = self.after
            try:
                plan = await self._archive.plan(subscription, self.after, through)
                async with aclosing(self._planned(plan.units, wanted)) as parts:
                    async for part in parts:
                        yield part
                return
            except (StalePlan, DamagedSegment):
                fruitless = fruitless + 1 if self.after == before else 0
                if fruitless == _FRUITLESS:
                    raise

    async def last_block(self, through: int) -> AsyncGenerator[Part, None]:
        """The events after `from_us` in the block that ends with a sequence number, whatever they are about."""
        plan = await self._archive.plan(Subscription(), through - 1, through)
        wanted = partial(_later, self._from_us)
        async with aclosing(self._planned(plan.units, lambda: wanted)) as parts:
            async for part in parts:
                yield Part(part.events)

    async def _planned(self, units: Sequence[Unit], wanted: Callable[[], Wanted]) -> AsyncGenerator[Part, None]:
        downloading = fetched(
            self._archive,
            units,
            self._access.folder,
            keep_bytes=self._access.kept_bytes,
            sizes=self._sizes,
            verify=_verify,
        )
        async with aclosing(downloading) as done:
            async for unit in done:
                with unit:
                    try:
                        async with aclosing(self._decoded(unit, wanted())) as parts:
                            async for part in parts:
                                yield part
                    except DamagedSegment:
                        unit.discard()
                        raise

    async def _decoded(self, unit: Fetched, wanted: Wanted) -> AsyncGenerator[Part, None]:
        ends: deque[int | None] = deque()
        blocks = decoded_blocks(
            self._frames(unit, ends),
            self._host,
            wanted=wanted,
            latest_us=time.time_ns() // 1000 + CLOCK_SLACK_US,
        )
        try:
            while block := await in_thread(partial(next, blocks, None)):
                seqs = block.events["seq"]
                self.after = ends.popleft() or (seqs[-1].as_py() if len(seqs) else self.after)
                yield Part(block.events, block.rejected)
        finally:
            await in_thread(blocks.close)

    def _frames(self, unit: Fetched, ends: deque[int | None]) -> Iterator[Frame]:
        """The frames that may hold what is asked for; to `ends` goes how far the archive has been read with each."""
        if unit.segment is None:
            for number, path in unit.blocks.items():
                ends.append(None)
                yield Frame(path.read_bytes(), f"block {number} of {unit.unit.name}")
            return
        with open_segment(unit.segment) as segment:
            for number, entry in enumerate(segment.blocks):
                if entry.events and entry.max_seq > self.after and entry.max_witnessed_us >= self._from_us:
                    ends.append(entry.max_seq)
                    yield Frame(segment.frame(number), segment.name_of(number), entry)


def _between(after: int, through: int, subscription: Subscription, heads: pa.RecordBatch) -> pa.BooleanArray:
    within = pc.and_(pc.greater(heads["seq"], after), pc.less_equal(heads["seq"], through))
    return pc.and_(within, subscription.mask(heads))


def _later(than_us: int, heads: pa.RecordBatch) -> pa.BooleanArray:
    return pc.greater(heads["witnessed_us"], than_us)


def _verify(path: Path) -> None:
    with open_segment(path):
        pass
