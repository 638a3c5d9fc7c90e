"""Minutes of the network as a server wants them: ready-made websocket frames, and what is needed to choose
among them.

A page is one minute in one encoding (plain text messages, or zstd-compressed binary ones). Pages are rendered
in a thread of their own, and the least recently used ones give way. What is sent to whom belongs to
`connection`.
"""

import asyncio
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from jetstream_pipeline.simulator.compression import Compression
from jetstream_pipeline.simulator.network import Network

_TEXT = 0x81
_BINARY = 0x82
_BYTES_PER_EVENT = 60
"""What the cache counts for an event besides its frame."""


@dataclass(frozen=True)
class Page:
    minute: int
    frames: bytes
    """All frames of the minute, one after the other."""
    offsets: "array[int]"
    """Where each frame begins, and where the last one ends."""
    times: "array[int]"
    seqs: "array[int]"
    sizes: "array[int]"
    """Bytes of each message before compression."""
    dids: list[str]
    collections: list[str | None]
    """The collections of the page; None stands for events that have none."""
    collection_codes: bytes
    """For each event, an index into `collections`."""
    latest_us: int

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def cost(self) -> int:
        return len(self.frames) + _BYTES_PER_EVENT * self.count

    def first_at_or_after(self, time_us: int) -> int:
        """The first event, in stream order, that is not earlier than this."""
        return next((index for index, time in enumerate(self.times) if time >= time_us), self.count)

    def first_of_seq(self, seq: int) -> int:
        return bisect_left(self.seqs, seq)

    def first_after(self, time_us: int, start: int) -> int:
        """The first event from `start` on that still lies in the future at this time."""
        if self.latest_us <= time_us:
            return self.count
        return next((index for index in range(start, self.count) if self.times[index] > time_us), self.count)

    def bytes_of(self, indices: Sequence[int]) -> bytes | memoryview:
        """The frames of some events, in order."""
        if isinstance(indices, range):
            return memoryview(self.frames)[self.offsets[indices.start] : self.offsets[indices.stop]]
        frames, offsets = self.frames, self.offsets
        return b"".join([frames[offsets[index] : offsets[index + 1]] for index in indices])

    def payload(self, index: int) -> bytes:
        """One message without its frame's header."""
        frame = self.frames[self.offsets[index] : self.offsets[index + 1]]
        return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


class PageCache:
    """Rendered pages up to a number of bytes."""

    def __init__(self, network: Network, compression: Compression, *, capacity_bytes: int, with_cursor: bool) -> None:
        self._network = network
        self._compression = compression
        self._capacity_bytes = capacity_bytes
        self._with_cursor = with_cursor
        self._pages: OrderedDict[tuple[int, bool], Page] = OrderedDict()
        self._bytes = 0
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="simulator-pages")
        self._under_way: dict[tuple[int, bool], asyncio.Future[Page]] = {}

    def close(self) -> None:
        self._renderer.shutdown(wait=False, cancel_futures=True)

    async def page(self, minute: int, compressed: bool = False) -> Page:
        page = self._cached(minute, compressed)
        return page if page is not None else await asyncio.shield(self._rendering(minute, compressed))

    def prepare(self, minute: int, compressed: bool = False) -> None:
        """Begin to render a page that will soon be wanted."""
        if (minute, compressed) not in self._pages:
            self._rendering(minute, compressed)

    def render(self, minute: int, compressed: bool = False) -> Page:
        """Render a page into the cache at once. Only before the server runs."""
        page = self._cached(minute, compressed)
        if page is None:
            page = self._make(minute, compressed)
            self._store((minute, compressed), page)
        return page

    def _cached(self, minute: int, compressed: bool) -> Page | None:
        page = self._pages.get((minute, compressed))
        if page is not None:
            self._pages.move_to_end((minute, compressed))
        return page

    def _rendering(self, minute: int, compressed: bool) -> "asyncio.Future[Page]":
        key = minute, compressed
        future = self._under_way.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._renderer, self._make, minute, compressed)
            self._under_way[key] = future
            future.add_done_callback(lambda done: self._rendered(key, done))
        return future

    def _rendered(self, key: tuple[int, bool], future: "asyncio.Future[Page]") -> None:
        del self._under_way[key]
        if not future.cancelled() and future.exception() is None:
            self._store(key, future.result())

    def _store(self, key: tuple[int, bool], page: Page) -> None:
        if key not in self._pages:
            self._pages[key] = page
            self._bytes += page.cost
        while self._bytes > self._capacity_bytes and len(self._pages) > 1:
            self._bytes -= self._pages.popitem(last=False)[1].cost

    def _make(self, minute: int, compressed: bool) -> Page:
        if compressed:
            plain = self._pages.get((minute, False)) or plain_page(self._network, minute, self._with_cursor)
            return compressed_page(plain, self._compression)
        return plain_page(self._network, minute, self._with_cursor)


def plain_page(network: Network, minute: int, with_cursor: bool) -> Page:
    events = network.page(minute)
    messages = [event.message if with_cursor else event.message_without_cursor for event in events]
    frames, offsets = _framed(_TEXT, messages)
    collections: dict[str | None, int] = {}
    codes = bytes(collections.setdefault(event.collection, len(collections)) for event in events)
    times = array("q", (event.time_us for event in events))
    return Page(
        minute=minute,
        frames=frames,
        offsets=offsets,
        times=times,
        seqs=array("q", (event.seq for event in events)),
        sizes=array("I", map(len, messages)),
        dids=[event.did for event in events],
        collections=list(collections),
        collection_codes=codes,
        latest_us=max(times),
    )


def compressed_page(page: Page, compression: Compression) -> Page:
    messages = [compression.compress(page.payload(index)) for index in range(page.count)]
    frames, offsets = _framed(_BINARY, messages)
    return replace(page, frames=frames, offsets=offsets)


def _framed(opcode: int, messages: Sequence[bytes]) -> tuple[bytes, "array[int]"]:
    pieces: list[bytes] = []
    offsets = array("Q", [0])
    end = 0
    for message in messages:
        length = len(message)
        if length < 126:
            header = bytes((opcode, length))
        elif length < 65536:
            header = bytes((opcode, 126)) + length.to_bytes(2, "big")
        else:
            header = bytes((opcode, 127)) + length.to_bytes(8, "big")
        pieces += header, message
        end += len(header) + length
        offsets.append(end)
    return b"".join(pieces), offsets
