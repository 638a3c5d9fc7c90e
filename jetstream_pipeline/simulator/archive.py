"""A server's own past as sealed segments: which there are by now, what they hold, and what compaction leaves of them.

Segments are made when somebody wants them, in a thread of their own; the latest are kept as long as there is room,
and of all that ever were made, the summaries. Spelling a segment belongs to `segments`, choosing among them to `plans`,
serving them to `archive_api`. Everything here that takes a moment is to be called by way of `aside`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from jetstream_pipeline.simulator.blocks import BlockWriter, bounds_of
from jetstream_pipeline.simulator.compaction import Keeps, keeps_share, keeps_what_stands
from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.page_cache import PageCache
from jetstream_pipeline.simulator.payloads import stored
from jetstream_pipeline.simulator.segments import Segment, Summary, sealed
from jetstream_pipeline.simulator.timeline import Timeline

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST_BLOCK = 4096
_T = TypeVar("_T")


class Archive:
    """The segments of one server: each of so many minutes, the first from the minute of `since` on."""

    def __init__(
        self,
        pages: PageCache,
        timeline: Timeline,
        *,
        since: datetime,
        segment_minutes: int,
        block_events: int,
        capacity_bytes: int,
    ) -> None:
        if segment_minutes < 1:
            raise ValueError(f"segment_minutes={segment_minutes}: a segment holds at least one minute")
        if not 1 <= block_events <= _LARGEST_BLOCK:
            raise ValueError(f"block_events={block_events}: choose between 1 and {_LARGEST_BLOCK}")
        if since.tzinfo is None:
            raise ValueError(f"archive_since={since}: give it a time zone")
        self._pages = pages
        self._timeline = timeline
        self._first_minute = pages.feed.minute_of_time((since - _EPOCH) // _MICROSECOND)
        self._segment_minutes = segment_minutes
        self._block_events = block_events
        self._capacity_bytes = capacity_bytes
        self._writer = BlockWriter()
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="simulator-archive")
        self.forget()

    def close(self) -> None:
        self._sealer.shutdown(wait=False, cancel_futures=True)

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Do something with the archive, one thing at a time, while streams go on."""
        return await asyncio.get_running_loop().run_in_executor(self._sealer, work)

    @property
    def number(self) -> int:
        """How many segments are sealed by now; their indices count from 0."""
        now_us = self._timeline.now_us()
        return max(0, (self._pages.feed.minute_of_time(now_us) - self._first_minute) // self._segment_minutes)

    def index_of_seq(self, seq: int) -> int:
        """The segment that can hold this sequence number, if it exists; it may be below 0."""
        return (self._pages.feed.minute_of_seq(seq) - self._first_minute) // self._segment_minutes

    def tip_seq(self, number: int) -> int:
        """The last sequence number of the first `number` segments, 0 if there is none."""
        if number not in self._tips:
            minutes = reversed(range(self._first_minute, self._first_minute + number * self._segment_minutes))
            pages = (self._pages.feed.page(minute) for minute in minutes)
            self._tips[number] = next((page[-1].seq for page in pages if page), 0)
        return self._tips[number]

    def summary(self, index: int) -> Summary:
        return self._summaries[index] if index in self._summaries else self.segment(index).summary

    def segment(self, index: int) -> Segment:
        segment = self._segments.get(index)
        if segment is None:
            segment = self._segments[index] = self._sealed(index)
            self._summaries[index] = segment.summary
            self._bytes += len(segment.data)
        self._segments.move_to_end(index)
        while self._bytes > self._capacity_bytes and len(self._segments) > 1:
            self._bytes -= len(self._segments.popitem(last=False)[1].data)
        return segment

    def compact(self, share: float | None = None) -> None:
        """Rewrite what is sealed by now without the records that were deleted or written anew by its end, or, to be
        quick, without this share of all records."""
        number = self.number
        keeps = keeps_what_stands(map(self._written, reversed(range(number)))) if share is None else keeps_share(share)
        self._forget_content()
        self._compactions.append((number, keeps))

    def events(self, start_us: int, end_us: int) -> Iterator[SimulatedEvent]:
        """The rows of all segments that were witnessed in [start, end), in order."""
        for index in range(self.number):
            for event in self._written(index):
                if start_us <= event.witnessed_us < end_us and self._is_left(index, event):
                    yield stored(event)

    def forget(self) -> None:
        """Seal everything anew: the past is another one now."""
        self._compactions: list[tuple[int, Keeps]] = []
        self._tips: dict[int, int] = {}
        self._forget_content()

    def _forget_content(self) -> None:
        self._segments: OrderedDict[int, Segment] = OrderedDict()
        self._summaries: dict[int, Summary] = {}
        self._bytes = 0

    def _written(self, index: int) -> list[SimulatedEvent]:
        """Everything that the segment ever held."""
        begin = self._first_minute + index * self._segment_minutes
        pages = map(self._pages.feed.page, range(begin, begin + self._segment_minutes))
        return [event for page in pages for event in page]

    def _is_left(self, index: int, event: SimulatedEvent) -> bool:
        return all(keeps(event) for number, keeps in self._compactions if index < number)

    def _sealed(self, index: int) -> Segment:
        written = self._written(index)
        blocks = []
        for begin in range(0, len(written), self._block_events):
            events = written[begin : begin + self._block_events]
            left = [event for event in events if self._is_left(index, event)]
            blocks.append(self._writer.block(bounds_of(events), left))
        return sealed(index, bounds_of(written), blocks)
