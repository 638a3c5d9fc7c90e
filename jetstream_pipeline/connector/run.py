"""One bounded reading of a stream: until so many events, so much time, a moment in the stream, or a stop.

Knows nothing of where the events go.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.jetstream.client import Batch, StreamClient
from jetstream_pipeline.jetstream.recent import Position


@dataclass(frozen=True)
class Bounds:
    """When a run is over; 0 or None: no such bound."""

    count: int = 0
    """Events."""
    seconds: float = 0.0
    """Of wall time, also when the stream is silent."""
    end_us: int | None = None
    """Unix microseconds: the run ends before the first event at or after it."""


class Run:
    """Reads a client's stream within bounds, and keeps the figures of what it handed out."""

    def __init__(
        self,
        client: StreamClient,
        bounds: Bounds,
        stop: asyncio.Event | None = None,
        only_new: Callable[[Batch], Batch] | None = None,
    ) -> None:
        """`stop`: set it to end the run. `only_new` leaves out of a batch what an earlier run has had."""
        self.client = client
        self.bounds = bounds
        self._only_new = only_new
        self._stop = stop or asyncio.Event()
        self._began = time.monotonic()
        self._position = Position()
        self.events = 0
        self.collections: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.hosts: dict[str, None] = {}
        """The hosts that served, in the order of their first event."""
        self.latest_us: int | None = None
        """The time of the last event handed out."""
        self.end_reached = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def position_us(self) -> int:
        """How far the stream has come, in unix microseconds; 0 before anything came."""
        return self._position.time_us

    @property
    def target_reached(self) -> bool:
        return 0 < self.bounds.count <= self.events

    @property
    def reconnections(self) -> int:
        return max(self.client.connections - 1, 0)

    async def batches(self, cursor: int | None) -> AsyncGenerator[Batch, None]:
        """The stream's batches from `cursor` on, the last one cut where the run ends; about one a second in silence.

        Raises what `StreamClient.batches` raises.
        """
        async with aclosing(self.client.batches(cursor)) as batches:
            while (batch := await self._next(batches)) is not None:
                if self._only_new:
                    batch = await asyncio.to_thread(self._only_new, batch)
                batch = self._cut(batch)
                self._count(batch)
                yield batch
                if self.end_reached or self.target_reached:
                    return

    async def _next(self, batches: AsyncIterator[Batch]) -> Batch | None:
        """The next batch; None when time is up or somebody asked to stop."""
        if self._stop.is_set():
            return None
        left = max(self.bounds.seconds - self.seconds, 0.0) if self.bounds.seconds else None
        coming = asyncio.ensure_future(anext(batches))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((coming, stopping), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else None
        finally:
            coming.cancel()
            stopping.cancel()
            await asyncio.gather(coming, stopping, return_exceptions=True)

    def _cut(self, batch: Batch) -> Batch:
        """The part of a batch that lies within the bounds and passes the filter."""
        if self.bounds.end_us is not None:
            past = pc.index(pc.greater_equal(batch.events["time_us"], self.bounds.end_us), True).as_py()
            self.end_reached = past >= 0
            if self.end_reached:
                batch = _first(batch, past)
        if self.client.span:
            # What only shows how far the stream has come has done so.
            batch = batch.filtered(self.client.subscription.mask(batch.events))
        left = self.bounds.count - self.events
        if self.bounds.count and batch.events.num_rows > left:
            batch, self.end_reached = _first(batch, left), False
        return batch

    def _count(self, batch: Batch) -> None:
        if not batch.events.num_rows:
            return
        self.events += batch.events.num_rows
        self.hosts.setdefault(batch.host)
        self.latest_us = batch.events["time_us"][-1].as_py()
        self._position.add(batch.events["time_us"])
        self.collections.update(_counts(batch.events["collection"].drop_null()))
        self.kinds.update(_counts(batch.events["kind"]))


def _counts(values: pa.Array) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()}


def _first(batch: Batch, number: int) -> Batch:
    """The batch up to and with so many events."""
    return replace(batch, part=batch.part.split(number)[0])
