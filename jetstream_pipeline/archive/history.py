"""One host's archive as part of its stream: what to ask for, and the rows of it, in stream order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from operator import attrgetter

from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.answers import ListedSegment
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.reading import Reading
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.resumption import FIRST_TIME_CURSOR
from jetstream_pipeline.jetstream.subscription import Subscription

_WELL_PAST_US = 1_000_000
"""So much later than the end asked for ends what is read: then some of its events show that the end is past."""


class Stretch(BaseModel):
    """What was read of an archive: from the first to the last sequence number (both included), which its host witnessed
    between these times (unix microseconds)."""

    model_config = ConfigDict(frozen=True)

    host: str
    first_seq: int
    last_seq: int
    first_us: int
    last_us: int
    segments: int


class History:
    """What a host's archive has of a subscription."""

    def __init__(self, host: Host, subscription: Subscription, access: Access) -> None:
        self.host = host
        self._subscription = subscription
        self._access = access
        self._listed: Sequence[ListedSegment] = ()
        self.read: Stretch | None = None
        """What was read so far."""

    @property
    def begins_us(self) -> int | None:
        """When the host witnessed the first event of its archive (unix microseconds); None where it has none, or before
        it was looked at."""
        return self._listed[0].min_witnessed_us if self._listed else None

    async def look(self) -> int | None:
        """See what is sealed by now; `begins_us`. ArchiveError where the archive cannot be read."""
        async with Archive(self.host, self._access.token_text) as archive:
            self._listed = await archive.segments()
        return self.begins_us

    async def parts(self, cursor: int, until_us: int | None) -> AsyncGenerator[Part, None]:
        """The events from `cursor` on (unix microseconds, or a sequence number of the host), as far as they were sealed
        at the last `look`.

        With `until_us` it ends a little later than that, with events that the subscription would not let through:
        they show that the stream has passed it. ArchiveError where the archive cannot be read.
        """
        listed = self._listed
        chosen = _chosen(listed, cursor, until_us)
        if not chosen:
            return
        async with Archive(self.host, self._access.token_text) as archive:
            first, last = chosen[0], chosen[-1]
            is_time = cursor >= FIRST_TIME_CURSOR
            after = max(first.min_seq, 0 if is_time else cursor) - 1
            begun = Stretch(
                host=self.host.name,
                first_seq=after + 1,
                last_seq=after,
                first_us=first.min_witnessed_us,
                last_us=first.min_witnessed_us,
                segments=0,
            )
            reading = Reading(archive, self.host, self._access, listed, cursor if is_time else 0)
            async with aclosing(reading.parts(self._subscription, after, last.max_seq)) as parts:
                async for part in parts:
                    self.read = _stretched(begun, reading.after, chosen)
                    yield part
            self.read = _stretched(begun, last.max_seq, chosen)
            if until_us is not None and self._subscription != Subscription():
                showing = Reading(archive, self.host, self._access, listed, until_us)
                async with aclosing(showing.last_block(last.max_seq)) as parts:
                    async for part in parts:
                        yield part

    async def segment(self, segment: ListedSegment) -> AsyncGenerator[Part, None]:
        """The events of one sealed segment. ArchiveError where the archive cannot be read."""
        async with Archive(self.host, self._access.token_text) as archive:
            reading = Reading(archive, self.host, self._access, [segment])
            async with aclosing(reading.parts(self._subscription, segment.min_seq - 1, segment.max_seq)) as parts:
                async for part in parts:
                    yield part


def _chosen(listed: Sequence[ListedSegment], cursor: int, until_us: int | None) -> Sequence[ListedSegment]:
    """The segments that hold what is asked for, and what shows that it is past."""
    is_time = cursor >= FIRST_TIME_CURSOR
    ends = [one.max_witnessed_us if is_time else one.max_seq for one in listed]
    first = next((number for number, end in enumerate(ends) if end >= cursor), len(listed))
    past = len(listed)
    if until_us is not None:
        passed = (number for number, one in enumerate(listed) if one.max_witnessed_us > until_us + _WELL_PAST_US)
        past = next(passed, past - 1) + 1
    return listed[first:past]


def _stretched(stretch: Stretch, through: int, segments: Sequence[ListedSegment]) -> Stretch:
    """The same from the same beginning on, as far as a sequence number."""
    begun = bisect_right(segments, through, key=attrgetter("min_seq"))
    last_us = segments[begun - 1].max_witnessed_us if begun else 0
    return stretch.model_copy(update={"last_seq": through, "segments": begun, "last_us": last_us})
