"""One host's own view of a network that others witness too: its times, its order, its numbers.

What a host does not see at all belongs to `blindness`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.feeds import events_of
from jetstream_pipeline.simulator.network import EVENTS_PER_GAP, Network
from jetstream_pipeline.simulator.schedule import MINUTE_US

_MICROSECOND = timedelta(microseconds=1)
_LARGEST_JITTER = timedelta(seconds=20)
_PAGES_KEPT = 4
_SLACK_US = 1_000_000
_LEAST_AGE_US = timedelta(hours=1) // _MICROSECOND
_AGE_RANGE_US = timedelta(days=400) // _MICROSECOND - _LEAST_AGE_US
_WORDS = 2**64


@dataclass(frozen=True)
class Witness:
    """How a host differs from one that sees everything at the network's own time."""

    offset: timedelta = timedelta(0)
    """How much later it sees everything; negative: earlier."""
    jitter: timedelta = timedelta(0)
    """At most so much earlier or later still, commit by commit; never out of a repository's own order."""
    seq_offset: int = 0
    """How much higher its sequence numbers are. They also stand in its own order."""
    imported: float = 0.0
    """The share of commits to which its operator's import of timestamps gave an older time: the one that their
    messages show. Order, numbers and cursors stay those of the time at which they were witnessed."""
    seed: int = 0
    """Another seed is another jitter, other gaps between the numbers, and other imported times."""

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.jitter <= _LARGEST_JITTER:
            raise ValueError(f"jitter={self.jitter}: choose between none and {_LARGEST_JITTER}")
        if not 0 <= self.imported <= 1:
            raise ValueError(f"imported={self.imported}: choose a share between 0 and 1")


class Witnessed:
    """A network as one host sees it."""

    def __init__(self, network: Network, witness: Witness) -> None:
        self._witness = witness
        self._network = network
        self._offset_us = witness.offset // _MICROSECOND
        self._jitter_us = witness.jitter // _MICROSECOND
        self._key = hashlib.blake2b(str(witness.seed).encode(), digest_size=32, person=b"witness").digest()
        self._events = lru_cache(_PAGES_KEPT)(network.page)
        self._jittered = lru_cache(_PAGES_KEPT)(self._jittered_page)

    def page(self, minute: int) -> Sequence[SimulatedEvent]:
        """Neighbours of a minute's end change sides with the jitter."""
        begin_us, end_us = minute * MINUTE_US, (minute + 1) * MINUTE_US
        seen = [
            one for page in self._sources(minute) for one in self._jittered(page) if begin_us <= one.order_us < end_us
        ]
        seen.sort(key=attrgetter("order_us"))
        return [self._own(minute, number, one.event, one.time_us) for number, one in enumerate(seen)]

    def part(self, minute: int, dids: frozenset[str]) -> Sequence[SimulatedEvent]:
        if not self._jitter_us:
            events = self._network.part(minute, dids)
            return [self._own(minute, self._network.number_of_seq(one.seq), one, one.time_us) for one in events]
        # Only the whole page tells an event's place among its neighbours.
        if any(self._network.part(page, dids) for page in self._sources(minute)):
            return events_of(dids, self.page(minute))
        return []

    def minute_of_seq(self, seq: int) -> int:
        return self._network.minute_of_seq(seq - self._witness.seq_offset)

    def minute_of_time(self, time_us: int) -> int:
        return self._network.minute_of_time(time_us - self._offset_us)

    def _sources(self, minute: int) -> range:
        """The network's pages from which this one's events come."""
        return range(minute - 1, minute + 2) if self._jitter_us else range(minute, minute + 1)

    def _own(self, minute: int, number: int, event: SimulatedEvent, time_us: int) -> SimulatedEvent:
        """The event as this host spells it; so many others stand before it on its page."""
        first_seq = minute * self._network.seq_stride + self._witness.seq_offset
        gaps = (number + self._witness.seed % EVENTS_PER_GAP) // EVENTS_PER_GAP
        return self._shown(event.witnessed(first_seq + number + gaps, time_us + self._offset_us))

    def _jittered_page(self, minute: int) -> list[_Seen]:
        begin_us = minute * MINUTE_US
        last_of: dict[str, int] = {}
        if self._jitter_us:
            since_us = begin_us - 2 * self._jitter_us - _SLACK_US
            recent = [event for event in self._events(minute - 1) if event.time_us >= since_us]
            self._see(recent, since_us, last_of)
        return self._see(self._events(minute), begin_us, last_of)

    def _see(self, events: Sequence[SimulatedEvent], latest_us: int, last_of: dict[str, int]) -> list[_Seen]:
        """`last_of` is where each repository's last event came to stand; it is kept up to date.

        Steps back in time stay steps back of the same size: the order goes by the latest time so far."""
        seen = []
        for event in events:
            latest_us = max(latest_us, event.time_us)
            order_us = latest_us + self._jitter_of(event)
            order_us = last_of[event.did] = max(order_us, last_of.get(event.did, order_us))
            seen.append(_Seen(order_us, order_us - (latest_us - event.time_us), event))
        return seen

    def _jitter_of(self, event: SimulatedEvent) -> int:
        """The same for all operations of one commit."""
        if not self._jitter_us:
            return 0
        return self._word(f"{event.did} {event.time_us}") % (2 * self._jitter_us + 1) - self._jitter_us

    def _shown(self, event: SimulatedEvent) -> SimulatedEvent:
        """With an imported time if it has one. All operations of a commit were witnessed at once, and stay together."""
        if not self._witness.imported or event.kind != "commit":
            return event
        commit = f"{event.did} {event.rev}"
        if self._word(f"imported {commit}") >= self._witness.imported * _WORDS:
            return event
        age_us = _LEAST_AGE_US + self._word(f"age {commit}") % (_AGE_RANGE_US + 1)
        return event.imported(event.witnessed_us - age_us)

    def _word(self, text: str) -> int:
        """A number below 2**64, always the same for the same text and seed."""
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=self._key).digest(), "little")


class _Seen(NamedTuple):
    order_us: int
    time_us: int
    event: SimulatedEvent
