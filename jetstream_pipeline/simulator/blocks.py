"""Blocks of an archived segment: some thousand events column by column, compressed.

Payloads are made by `payloads`; how blocks form a file belongs to `segments`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard

from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.payloads import payload

_KINDS = {"create": 1, "update": 2, "delete": 3, "identity": 4, "account": 5}
_UNSET = 0


@dataclass(frozen=True)
class Bounds:
    """From the first to the last event: of all that were ever stored, whatever is left of them."""

    min_seq: int
    max_seq: int
    min_us: int
    max_us: int
    """Witnessed times; the earliest and the latest, which need not be the first and the last event's."""


@dataclass(frozen=True)
class Block:
    frame: bytes
    size: int
    """Bytes before compression."""
    count: int
    bounds: Bounds
    dids: frozenset[str]
    topics: Counter[str]
    """How many events each collection has; kinds without one count as `$identity` and `$account`."""


class BlockWriter:
    """Compresses blocks. Not to be used by two threads at once."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(write_checksum=True, write_content_size=True)

    def block(self, bounds: Bounds, events: Sequence[SimulatedEvent]) -> Block:
        """A block with what is left of the events between these bounds, perhaps nothing."""
        content = _content(events)
        return Block(
            self._compressor.compress(content),
            len(content),
            len(events),
            bounds,
            frozenset(event.did for event in events),
            Counter(event.collection or f"${event.kind}" for event in events),
        )


def bounds_of(events: Sequence[SimulatedEvent]) -> Bounds:
    """Of events in stream order; all zero if there are none."""
    if not events:
        return Bounds(0, 0, 0, 0)
    times = [event.witnessed_us for event in events]
    return Bounds(events[0].seq, events[-1].seq, min(times), max(times))


def _content(events: Sequence[SimulatedEvent]) -> bytes:
    number = len(events)
    collections = [(event.collection or "").encode() for event in events]
    dids = [event.did.encode() for event in events]
    rkeys = [(event.rkey or "").encode() for event in events]
    revs = [(event.rev or "").encode() for event in events]
    payloads = [payload(event) for event in events]
    fixed = struct.pack(
        f"<I{number}Q{number}q{number}q{number}B{number}B{number}H{number}B{number}B{number}I",
        number,
        *(event.seq for event in events),
        *(event.witnessed_us for event in events),
        *(_UNSET if event.time_us == event.witnessed_us else event.time_us for event in events),
        *(_KINDS[event.operation or event.kind] for event in events),
        *map(len, collections),
        *map(len, dids),
        *map(len, rkeys),
        *map(len, revs),
        *map(len, payloads),
    )
    return b"".join([fixed, *collections, *dids, *rkeys, *revs, *payloads])
