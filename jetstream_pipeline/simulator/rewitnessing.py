"""A feed after a crash: the last events are witnessed once more, in another order, under the same numbers.

Which events are lost belongs to `faults`; that connections end, to `server`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.feeds import Feed, events_of
from jetstream_pipeline.simulator.timeline import Position

_FARTHEST_MINUTES = 24 * 60


class _Slot(NamedTuple):
    """An event and the page on which it stands."""

    minute: int
    event: SimulatedEvent


class Rewitnessed:
    """A feed some of whose pages are replaced."""

    def __init__(self, feed: Feed, pages: dict[int, list[SimulatedEvent]], seqs: Sequence[int]) -> None:
        """`seqs` are the numbers that were handed out anew, in order."""
        self._feed = feed
        self._pages = pages
        self._first, self._last = seqs[0], seqs[-1]
        self._placed = sorted((event.seq, minute) for minute, events in pages.items() for event in events)

    def page(self, minute: int) -> Sequence[SimulatedEvent]:
        return self._pages[minute] if minute in self._pages else self._feed.page(minute)

    def part(self, minute: int, dids: frozenset[str]) -> Sequence[SimulatedEvent]:
        if minute in self._pages:
            return events_of(dids, self._pages[minute])
        return self._feed.part(minute, dids)

    def minute_of_seq(self, seq: int) -> int:
        if self._first <= seq <= self._last:
            return self._placed[bisect_left(self._placed, (seq,))][1]
        return self._feed.minute_of_seq(seq)

    def minute_of_time(self, time_us: int) -> int:
        return self._feed.minute_of_time(time_us)


def rewitnessed(feed: Feed, position: Position, lost: int) -> Feed:
    """The `lost` events before the position change places with as many after it, as far as each repository's own
    order allows. Whatever then stands before the position's time is moved up to it."""
    before = list(islice(_backwards(feed, position), lost))[::-1]
    after = list(islice(_forwards(feed, position), lost))
    if not before:
        return feed
    crash_minute, crash_us = before[-1].minute, max(slot.event.witnessed_us for slot in before)
    affected = {slot.event.did for slot in before}
    ahead = [slot for slot in after if slot.event.did not in affected]
    behind = [slot for slot in after if slot.event.did in affected]
    slots = [*before, *after]
    moved = [
        _Slot(
            max(crash_minute, slot.minute),
            content.event.witnessed(slot.event.seq, max(crash_us, slot.event.witnessed_us)),
        )
        for content, slot in zip([*ahead, *before, *behind], slots, strict=True)
    ]
    seqs = [slot.event.seq for slot in slots]
    return Rewitnessed(feed, _replaced(feed, {slot.minute for slot in slots}, moved), seqs)


def _backwards(feed: Feed, position: Position) -> Iterator[_Slot]:
    for minute in range(position.minute, position.minute - _FARTHEST_MINUTES, -1):
        events = feed.page(minute)
        earlier = events[: _index(events, position)] if minute == position.minute else events
        yield from (_Slot(minute, event) for event in reversed(earlier))


def _forwards(feed: Feed, position: Position) -> Iterator[_Slot]:
    for minute in range(position.minute, position.minute + _FARTHEST_MINUTES):
        events = feed.page(minute)
        later = events[_index(events, position) :] if minute == position.minute else events
        yield from (_Slot(minute, event) for event in later)


def _index(events: Sequence[SimulatedEvent], position: Position) -> int:
    return bisect_left(events, position.seq, key=attrgetter("seq"))


def _replaced(feed: Feed, minutes: set[int], moved: Sequence[_Slot]) -> dict[int, list[SimulatedEvent]]:
    """The pages anew: numbers grow along the stream, so their order is the pages' order."""
    seqs = {slot.event.seq for slot in moved}
    pages = {minute: [event for event in feed.page(minute) if event.seq not in seqs] for minute in minutes}
    for slot in moved:
        pages[slot.minute].append(slot.event)
    for events in pages.values():
        events.sort(key=attrgetter("seq"))
    return pages
