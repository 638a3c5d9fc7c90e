"""A feed without some of its repositories: a host that is connected and serves, and yet does not see everything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.feeds import Feed


class Blind:
    """Leaves out a share of the repositories, always the same ones for the same seed."""

    def __init__(self, feed: Feed, share: float, seed: int) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"blind={share}: choose a share between 0 and 1")
        self._feed = feed
        self._share = share
        self._seed = seed

    def page(self, minute: int) -> Sequence[SimulatedEvent]:
        return [event for event in self._feed.page(minute) if not self.misses(event.did)]

    def part(self, minute: int, dids: frozenset[str]) -> Sequence[SimulatedEvent]:
        return self._feed.part(minute, frozenset(did for did in dids if not self.misses(did)))

    def minute_of_seq(self, seq: int) -> int:
        return self._feed.minute_of_seq(seq)

    def minute_of_time(self, time_us: int) -> int:
        return self._feed.minute_of_time(time_us)

    def misses(self, did: str) -> bool:
        digest = hashlib.blake2b(f"{self._seed} {did}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < self._share * 2**64
