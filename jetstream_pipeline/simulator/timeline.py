"""Where in the stream a cursor points, given what the server still has and what time it is.

Sequence numbers, times, the look-back and the live tip meet here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jetstream_pipeline.simulator.page_cache import PageCache
from jetstream_pipeline.simulator.subscription import FIRST_TIME_CURSOR


@dataclass(frozen=True, order=True)
class Position:
    """The event to be sent next: its page, and the number that it has at least."""

    minute: int
    seq: int


class Timeline:
    """Past and present as one server sees them."""

    def __init__(self, pages: PageCache, lookback_us: int, clock: Callable[[], float]) -> None:
        self._pages = pages
        self._lookback_us = lookback_us
        self._clock = clock

    def now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    def oldest_us(self) -> int:
        return self.now_us() - self._lookback_us

    def is_over(self, minute: int) -> bool:
        """Whether the present has left this page."""
        return minute < self._pages.feed.minute_of_time(self.now_us())

    async def start(self, cursor: int | None, dids: frozenset[str] = frozenset()) -> Position:
        """The first event for this cursor: never before the look-back, never after the live tip.

        For a subscriber to some repositories it may be a later one, if none of theirs stands between."""
        now_us = self.now_us()
        if cursor is None or cursor > now_us:
            return await self._tip(now_us)
        oldest_us = now_us - self._lookback_us
        if cursor >= FIRST_TIME_CURSOR:
            return await self._at_time(max(cursor, oldest_us), dids)
        feed = self._pages.feed
        minute, oldest, latest = feed.minute_of_seq(cursor), feed.minute_of_time(oldest_us), feed.minute_of_time(now_us)
        position = Position(minute, cursor)
        if minute <= oldest:
            position = max(position, await self._at_time(oldest_us))
        if minute >= latest:
            position = min(position, await self._tip(now_us))
        return position

    async def floor_seq(self) -> int:
        """The sequence number of the oldest event that the server still has."""
        return await self.seq_at(await self._at_time(self.oldest_us()))

    async def seq_at(self, position: Position) -> int:
        """The sequence number of the first event from `position` on; 0 if there is none yet."""
        return (await self.event_at(position))[1]

    async def event_at(self, position: Position) -> tuple[int, int]:
        """Time and sequence number of the first event from `position` on; now and 0 if there is none yet."""
        minute = position.minute
        while True:
            page = await self._pages.page(minute)
            index = page.first_of_seq(position.seq) if minute == position.minute else 0
            if index < page.count:
                return page.times[index], page.seqs[index]
            if not self.is_over(minute):
                return self.now_us(), 0
            minute += 1

    async def _at_time(self, time_us: int, dids: frozenset[str] = frozenset()) -> Position:
        minute = self._pages.feed.minute_of_time(time_us)
        # To find the place on a page takes the whole page, and nothing on this one may be wanted.
        if dids and self.is_over(minute) and not (await self._pages.page(minute, dids=dids)).count:
            return Position(minute + 1, 0)
        page = await self._pages.page(minute)
        return Position(minute, page.seq_from(page.first_at_or_after(time_us)))

    async def _tip(self, now_us: int) -> Position:
        minute = self._pages.feed.minute_of_time(now_us)
        page = await self._pages.page(minute)
        return Position(minute, page.seq_from(page.first_after(now_us, 0)))
