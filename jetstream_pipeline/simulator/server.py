"""A Jetstream on loopback over a synthetic network.

Opening, closing and what all connections share belong here; a single connection is `connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType

from jetstream_pipeline.simulator.archive import Archive
from jetstream_pipeline.simulator.blindness import Blind
from jetstream_pipeline.simulator.compression import Compression
from jetstream_pipeline.simulator.connection import Connection
from jetstream_pipeline.simulator.encoding import Encoding, Wire
from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.fault_plan import FaultPlan
from jetstream_pipeline.simulator.faults import Faults
from jetstream_pipeline.simulator.feeds import Feed, window
from jetstream_pipeline.simulator.network import Network
from jetstream_pipeline.simulator.pace import Pace
from jetstream_pipeline.simulator.page_cache import PageCache
from jetstream_pipeline.simulator.rewitnessing import rewitnessed
from jetstream_pipeline.simulator.schedule import MINUTE_US
from jetstream_pipeline.simulator.timeline import Position, Timeline
from jetstream_pipeline.simulator.witness import Witness, Witnessed

_SHUTDOWN_SECONDS = 2.0
_BACKLOG = 128
_V2_COMPRESSED = Encoding(Wire.V2, True)


class Simulator:
    """Serves `/subscribe` while its context is open, the second wire unless `v2` is False, and an archive if
    `archive_since` says from when on: in segments of `segment_minutes` and blocks of at most `block_events`. Of the
    latest segments, up to `archive_cache_bytes` are kept. A page of a plan has at most `plan_entries`. With an
    `api_token`, plans and downloads want it. Of `events_per_second`, all subscribers together get no more."""

    def __init__(
        self,
        network: Network,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        lookback: timedelta = timedelta(hours=36),
        faults: Faults | None = None,
        dictionary: bytes | None = None,
        dictionary_v2: bytes | None = None,
        ping_interval: float = 30.0,
        pong_timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
        page_cache_bytes: int = 256 * 1024 * 1024,
        with_cursor: bool = True,
        v2: bool = True,
        warm_up: timedelta = timedelta(0),
        witness: Witness | None = None,
        blind: float = 0.0,
        blind_seed: int = 0,
        archive_since: datetime | None = None,
        segment_minutes: int = 60,
        block_events: int = 4096,
        archive_cache_bytes: int = 256 * 1024 * 1024,
        plan_entries: int = 100_000,
        api_token: str | None = None,
        events_per_second: float | None = None,
    ) -> None:
        if archive_since is None and (api_token is not None or (faults and faults.are_of_archive)):
            raise ValueError("there is no archive to protect or to disturb; say with archive_since from when on it is")
        if archive_since is not None and not v2:
            raise ValueError(f"archive_since={archive_since}: a server without the second wire has no archive")
        if plan_entries < 1:
            raise ValueError(f"plan_entries={plan_entries}: a page of a plan has at least one entry")
        self.network = network
        self.ping_interval = ping_interval
        self.pong_timeout = pong_timeout
        self.faults = FaultPlan(faults or Faults())
        self.speaks_v2 = v2
        compressions = {
            Wire.V1: Compression(network, Wire.V1, dictionary),
            Wire.V2: Compression(network, Wire.V2, dictionary_v2),
        }
        feed: Feed = network if witness in (None, Witness()) else Witnessed(network, witness)
        if blind:
            feed = Blind(feed, blind, blind_seed)
        self.pages = PageCache(feed, compressions, capacity_bytes=page_cache_bytes, with_cursor=with_cursor)
        self.timeline = Timeline(self.pages, int(lookback / timedelta(microseconds=1)), clock)
        self.archive = (
            None
            if archive_since is None
            else Archive(
                self.pages,
                self.timeline,
                since=archive_since,
                segment_minutes=segment_minutes,
                block_events=block_events,
                capacity_bytes=archive_cache_bytes,
            )
        )
        self.api_token = api_token
        self.plan_entries = plan_entries
        self.pace = Pace(events_per_second)
        self._host = host
        self._port = port
        self._warm_up = warm_up
        self._warm_at = 0.0
        self._connections: dict[asyncio.Task[None], Connection] = {}

    @property
    def address(self) -> str:
        return f"ws://{self._host}:{self._port}"

    @property
    def dictionary(self) -> bytes:
        """What a subscriber of the first wire needs to read compressed messages."""
        return self.pages.compressions[Wire.V1].dictionary

    @property
    def dictionary_v2(self) -> bytes:
        """What a subscriber of the second wire needs to read compressed messages; it is served, too."""
        return self.pages.compressions[Wire.V2].dictionary

    @property
    def is_warming_up(self) -> bool:
        return time.monotonic() < self._warm_at

    async def retire_dictionary(self) -> None:
        """Have another dictionary for the second wire, and send away who used the old one."""
        using = [one for one in self._connections.values() if one.reads(_V2_COMPRESSED)]
        await asyncio.gather(*(one.announce_shutdown() for one in using), return_exceptions=True)
        self.pages.compressions[Wire.V2] = self.pages.compressions[Wire.V2].retired()
        self.pages.forget()

    async def crash(self, position: Position, lost: int) -> None:
        """End all connections, and witness what stands around this position once more."""
        self.pages.feed = await self.pages.aside(partial(rewitnessed, self.pages.feed, position, lost))
        self.pages.forget()
        if self.archive is not None:
            await self.archive.aside(self.archive.forget)
        for connection in self._connections.values():
            connection.cut()

    def events(self, start_us: int, end_us: int) -> Iterator[SimulatedEvent]:
        """What this server serves for the window [start, end), in its order, by its times."""
        return window(self.pages.feed, start_us, end_us)

    async def compact(self, share: float | None = None) -> None:
        """Rewrite the segments that are sealed by now without the records that were deleted or written anew by then,
        or, to be quick, without this share of all records. Checksums, sizes and counts change; bounds and the numbers
        of blocks do not."""
        archive = self._archive()
        await archive.aside(partial(archive.compact, share))

    def archived_events(self, start_us: int, end_us: int) -> Iterator[SimulatedEvent]:
        """The rows of the archive by now that were witnessed in [start, end), in its order."""
        return self._archive().events(start_us, end_us)

    def _archive(self) -> Archive:
        if self.archive is None:
            raise ValueError("this server has no archive; say with archive_since from when on it is to have one")
        return self.archive

    def render_ahead(
        self, start_us: int, end_us: int, *, compressed: bool = False, wire: Wire = Wire.V1, processes: int = 1
    ) -> None:
        """Render a span into the page cache, so that its replay costs nothing but sending.

        Takes its time, the less the more `processes` there are (more than one only where they can be forked): call it
        before the server runs."""
        minutes = range(start_us // MINUTE_US, -(-end_us // MINUTE_US))
        self.pages.render(minutes, Encoding(wire, compressed), processes=processes)

    async def __aenter__(self) -> Simulator:
        self._listener = socket.create_server((self._host, self._port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        self._warm_at = time.monotonic() + self._warm_up.total_seconds()
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        farewells = [asyncio.create_task(one.announce_shutdown()) for one in self._connections.values()]
        remaining = [*farewells, *self._connections]
        if remaining:
            await asyncio.wait(remaining, timeout=_SHUTDOWN_SECONDS)
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
        self.pages.close()
        if self.archive is not None:
            self.archive.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connected, _ = await loop.sock_accept(self._listener)
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, connected)
            task = asyncio.create_task(connection.serve())
            self._connections[task] = connection
            task.add_done_callback(self._connections.pop)


@contextlib.contextmanager
def running(simulator: Simulator) -> Iterator[Simulator]:
    """Run a simulator in a thread with a loop of its own, for code that is not asynchronous."""
    started = threading.Event()
    stop: list[Callable[[], object]] = []
    failure: list[BaseException] = []

    async def serve() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with simulator:
            stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
            started.set()
            await stopping.wait()

    def main() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=main, name="simulator", daemon=True)
    thread.start()
    started.wait()
    try:
        if failure:
            raise failure[0]
        yield simulator
    finally:
        if stop:
            stop[0]()
        thread.join()
