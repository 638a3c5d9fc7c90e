"""How far back a host's history reaches, seen by somebody who asks it for everything."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.jetstream.errors import Gap, JetstreamError
from jetstream_pipeline.jetstream.server import Server
from jetstream_pipeline.jetstream.subscription import Subscription

_EVENTS = 50
_SECONDS = 15.0
_PATIENCE_SEC = 1.0
"""For more events, when there are enough to tell."""
_LONGEST_SILENCE = 20
"""Times the mean distance of two events: a network that is silent for longer has been cut off."""
_LEAST_SILENCE_US = 1_000_000
_FIRST = 5
_IMPORTED_US = 60_000_000
"""A time so far behind the median of the first ones was imported by an operator."""


async def missing(server: Server, cursor: int) -> Gap | None:
    """What the host no longer has from `cursor` on (unix microseconds): None where its history reaches back to there.

    JetstreamError where it sends nothing, not even without a filter.
    """
    seen: list[pa.RecordBatch] = []
    async with aclosing(server.look(Subscription(), cursor, _SECONDS)) as looking:
        with suppress(TimeoutError):
            while (number := sum(batch.num_rows for batch in seen)) < _EVENTS:
                async with asyncio.timeout(_PATIENCE_SEC if number >= _FIRST else None):
                    if (events := await anext(looking, None)) is None:
                        break
                seen.append(events)
    times = pa.Table.from_batches(seen)["time_us"].slice(0, _EVENTS) if seen else ()
    if not len(times):
        raise JetstreamError(f"{server.host.name} sends nothing, not even without a filter")
    return _gap(server.host.name, cursor, times)


def _gap(host: str, cursor: int, times: pa.ChunkedArray) -> Gap | None:
    first = sorted(times.slice(0, _FIRST).to_pylist())
    median = first[len(first) // 2]
    begins_us = next(time_us for time_us in first if time_us >= median - _IMPORTED_US)
    spread_us = int(pc.quantile(times, 0.9)[0].as_py()) - begins_us
    silence_us = max(_LONGEST_SILENCE * spread_us // max(len(times), 1), _LEAST_SILENCE_US)
    return Gap(host, cursor, begins_us) if begins_us - cursor > silence_us else None
