"""Where in the stream a cursor points, given what the server still has and what time it is.

Sequence numbers, times, the look-back and the live tip meet here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jetstream_pipeline.simulator.network import Network
from jetstream_pipeline.simulator.pages import PageCache
from jetstream_pipeline.simulator.schedule import MINUTE_US
from jetstream_pipeline.simulator.subscription import FIRST_TIME_CURSOR


@dataclass(frozen=True, order=True)
class Position:
    """The event to be sent next: its page, and its place on it."""

    minute: int
    index: int


class Timeline:
    """Past and present as one server sees them."""

    def __init__(self, network: Network, pages: PageCache, lookback_us: int, clock: Callable[[], float]) -> None:
        self._network = network
        self._pages = pages
        self._lookback_us = lookback_us
        self._clock = clock

    def now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    async def start(self, cursor: int | None) -> Position:
        """The first event for this cursor: never before the look-back, never after the live tip."""
        now_us = self.now_us()
        if cursor is None or cursor > now_us:
            return await self._tip(now_us)
        oldest_us = now_us - self._lookback_us
        if cursor >= FIRST_TIME_CURSOR:
            return await self._at_time(max(cursor, oldest_us))
        minute = self._network.minute_of_seq(cursor)
        if minute < oldest_us // MINUTE_US:
            return await self._at_time(oldest_us)
        tip = await self._tip(now_us)
        if minute > tip.minute:
            return tip
        page = await self._pages.page(minute)
        wanted = Position(minute, page.first_of_seq(cursor))
        return min(tip, max(wanted, await self._at_time(oldest_us)))

    async def _at_time(self, time_us: int) -> Position:
        minute = time_us // MINUTE_US
        page = await self._pages.page(minute)
        return Position(minute, page.first_at_or_after(time_us))

    async def _tip(self, now_us: int) -> Position:
        minute = now_us // MINUTE_US
        page = await self._pages.page(minute)
        return Position(minute, page.first_after(now_us, 0))
