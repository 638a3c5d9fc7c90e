"""What one host has of the network: pages of events by minute, in that host's order, times and numbers.

A `Network` is a feed itself; other feeds are made from one. How a feed is sent belongs to `pages` and
`connection`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from jetstream_pipeline.simulator.event import SimulatedEvent


class Feed(Protocol):
    def page(self, minute: int) -> Sequence[SimulatedEvent]:
        """All events of one page, in stream order. Pages follow each other in stream order too."""

    def part(self, minute: int, dids: frozenset[str]) -> Sequence[SimulatedEvent]:
        """The events of these repositories on one page, cheaper than the page where they are few."""

    def minute_of_seq(self, seq: int) -> int:
        """The only page that can hold this sequence number."""

    def minute_of_time(self, time_us: int) -> int:
        """The page in which to look for the first event witnessed at or after this time."""


def events_of(dids: frozenset[str], page: Sequence[SimulatedEvent]) -> list[SimulatedEvent]:
    return [event for event in page if event.did in dids]


def window(feed: Feed, start_us: int, end_us: int) -> Iterator[SimulatedEvent]:
    """The window [start, end) in stream order: from the first event witnessed at or after `start_us` up to, not
    including, the first one at or after `end_us`."""
    started = False
    for minute in range(feed.minute_of_time(start_us), feed.minute_of_time(end_us) + 2):
        for event in feed.page(minute):
            started = started or event.witnessed_us >= start_us
            if event.witnessed_us >= end_us:
                return
            if started:
                yield event
