"""Pages that are rendered when they are wanted, in a thread of their own, and kept as long as there is room.

How a page is made belongs to `pages`. Everything that takes a moment and must not hold up the server's loop is
done in the same thread.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from jetstream_pipeline.simulator.compression import Compression
from jetstream_pipeline.simulator.encoding import V1, Encoding, Wire
from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.feeds import Feed
from jetstream_pipeline.simulator.pages import Page, compressed_page, plain_page

_Key = tuple[int, Encoding, frozenset[str]]
_T = TypeVar("_T")
_EVERYBODY: frozenset[str] = frozenset()


_inherited: list[PageCache] = []
"""In a process that renders pages for another one: that one's cache, which could not be handed over but by forking."""


def _inherit(cache: PageCache) -> None:
    _inherited.append(cache)


def _make_inherited(key: _Key) -> Page:
    return _inherited[0]._make(key)


class PageCache:
    """Rendered pages of a feed up to a number of bytes."""

    def __init__(
        self, feed: Feed, compressions: dict[Wire, Compression], *, capacity_bytes: int, with_cursor: bool
    ) -> None:
        self.feed = feed
        self.compressions = compressions
        self._capacity_bytes = capacity_bytes
        self._with_cursor = with_cursor
        self._pages: OrderedDict[_Key, Page] = OrderedDict()
        self._bytes = 0
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="simulator-pages")
        self._under_way: dict[_Key, asyncio.Future[Page]] = {}

    def close(self) -> None:
        self._renderer.shutdown(wait=False, cancel_futures=True)

    async def page(self, minute: int, encoding: Encoding = V1, dids: frozenset[str] = _EVERYBODY) -> Page:
        """A page; for a subscriber to some repositories limited to these, unless the whole one is at hand."""
        page = self._cached((minute, encoding, _EVERYBODY)) or self._cached((minute, encoding, dids))
        return page if page is not None else await asyncio.shield(self._rendering((minute, encoding, dids)))

    def prepare(self, minute: int, encoding: Encoding = V1) -> None:
        """Begin to render a page that will soon be wanted."""
        key = minute, encoding, _EVERYBODY
        if key not in self._pages:
            self._rendering(key)

    def render(self, minutes: Iterable[int], encoding: Encoding = V1, *, processes: int = 1) -> None:
        """Render pages into the cache at once. Only before the server runs."""
        keys = [key for minute in minutes if self._cached(key := (minute, encoding, _EVERYBODY)) is None]
        if processes == 1:
            for key in keys:
                self._store(key, self._make(key))
            return
        if encoding.compressed:
            # Trained once, for all.
            _ = self.compressions[encoding.wire].dictionary
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, context, _inherit, (self,)) as pool:
            for key, page in zip(keys, pool.map(_make_inherited, keys), strict=True):
                self._store(key, page)

    def messages(self, events: Sequence[SimulatedEvent], wire: Wire) -> list[bytes]:
        """The events as they are spelled on this wire, before compression."""
        if wire is Wire.V2:
            return [event.message_v2 for event in events]
        return [event.message if self._with_cursor else event.message_without_cursor for event in events]

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Do something that takes a moment where pages are rendered."""
        return await asyncio.get_running_loop().run_in_executor(self._renderer, work)

    def forget(self) -> None:
        """Render everything anew: the feed or a dictionary is another one now."""
        self._pages.clear()
        self._bytes = 0
        self._under_way.clear()

    def _cached(self, key: _Key) -> Page | None:
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def _rendering(self, key: _Key) -> asyncio.Future[Page]:
        future = self._under_way.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._renderer, self._make, key)
            self._under_way[key] = future
            future.add_done_callback(lambda done: self._rendered(key, done))
        return future

    def _rendered(self, key: _Key, future: asyncio.Future[Page]) -> None:
        if self._under_way.get(key) is not future:
            return
        del self._under_way[key]
        if not future.cancelled() and future.exception() is None:
            self._store(key, future.result())

    def _store(self, key: _Key, page: Page) -> None:
        if key not in self._pages:
            self._pages[key] = page
            self._bytes += page.cost
        while self._bytes > self._capacity_bytes and len(self._pages) > 1:
            self._bytes -= self._pages.popitem(last=False)[1].cost

    def _make(self, key: _Key) -> Page:
        minute, encoding, dids = key
        if encoding.compressed:
            plain_key = minute, encoding.plain, dids
            plain = self._pages.get(plain_key) or self._make(plain_key)
            return compressed_page(plain, self.compressions[encoding.wire])
        events = self.feed.part(minute, dids) if dids else self.feed.page(minute)
        return plain_page(minute, events, self.messages(events, encoding.wire), dids)
