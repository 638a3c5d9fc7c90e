"""Where a stream that ended goes on: which cursor to ask which host for, and what of the answer to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.recent import Recent
from jetstream_pipeline.window import from_us

FIRST_TIME_CURSOR = 10**15
"""From here on a cursor is unix microseconds, below it a sequence number of one host."""

REWIND_US = 5_000_000
HOST_SKEW_US = 30_000_000
"""How much earlier another host may have witnessed an event."""
_TOLD_GAP_US = 600_000_000
_REWIND_SEQS = 5_000
"""More than the 4,096 that a host may hand out again after a crash."""


class OtherNumbers(JetstreamError):
    """A host's sequence numbers do not lead back to where its stream ended."""


@dataclass
class _Numbers:
    """The sequence numbers of the host that serves, from the first to the last one seen."""

    first: int
    last: int


class Resumption:
    """Remembers how far a stream has come. It goes on by number where the host's own numbers lead back, and by time
    elsewhere: numbers say nothing on another host, and a time may cost the replay of an hour (`Cursors`, protocol)."""

    def __init__(self, cursor: int | None) -> None:
        self._asked = cursor
        self._floor_us = cursor if cursor and cursor >= FIRST_TIME_CURSOR else None
        self._serving: Host | None = None
        self._numbers: _Numbers | None = None
        self.recent = Recent(2 * HOST_SKEW_US + REWIND_US)

    @property
    def begun(self) -> bool:
        return self._serving is not None

    @property
    def is_of_one_host(self) -> bool:
        """Whether only the first host knows where to begin: the cursor is one of its numbers."""
        return not self.begun and self._asked is not None and self._asked < FIRST_TIME_CURSOR

    def cursor(self, host: Host) -> int | None:
        """What to ask `host` for: unix microseconds, its own sequence number, or None for the live tip."""
        if not self.begun:
            return self._asked
        if self._numbers and host == self._serving:
            return max(self._numbers.last - _REWIND_SEQS, self._numbers.first)
        if host == self._serving:
            return max(self.recent.position - REWIND_US, self._floor_us or 0)
        return self.recent.position - HOST_SKEW_US

    def live_since(self, time_us: int) -> None:
        """A stream from the live tip that ends before anything came goes on from this time."""
        if self._asked is None:
            self._asked = time_us

    def opening(self, cursor: int | None) -> Opening:
        return Opening(cursor, self.recent if self.begun else None)

    def distrust_numbers(self) -> None:
        """Go on by time: the host hands out its numbers anew, or no longer has them."""
        self._numbers = None

    def saw(self, events: pa.RecordBatch, host: Host) -> list[bool]:
        """Which of the events are new."""
        if not events.num_rows:
            return []
        if self._floor_us is None:
            self._floor_us = events["time_us"][0].as_py()
        first, last = events["seq"][0].as_py(), events["seq"][-1].as_py()
        if first is None or last is None:
            self._numbers = None
        elif self._numbers and host == self._serving:
            self._numbers.last = last
        else:
            self._numbers = _Numbers(first, last)
        self._serving = host
        return self.recent.fresh(events)


class Opening:
    """The beginning of one connection, until the stream is where it was asked to begin."""

    def __init__(self, cursor: int | None, recent: Recent | None) -> None:
        self._time = cursor if cursor is not None and cursor >= FIRST_TIME_CURSOR else None
        self._recent = recent if self._time is None else None
        self._begun = self._time is None and recent is None
        self.gap: str | None = None
        """What to tell of a stream that begins long after the time asked for: v1 hosts say nothing of it."""

    def trim(
        self, events: pa.RecordBatch, rejected: tuple[Rejected, ...]
    ) -> tuple[pa.RecordBatch, tuple[Rejected, ...]]:
        """Without what lies before the first event at or after the time asked for: newer servers begin up to an hour
        early. OtherNumbers where a sequence number was asked for and the first event is not one that it led back to."""
        if self._begun or not (events.num_rows or rejected):
            return events, rejected
        if self._time is None:
            if events.num_rows:
                if self._recent and not self._recent.known(events):
                    raise OtherNumbers("its sequence numbers name other events than before")
                self._begun = True
            return events, rejected
        first = pc.index(pc.greater_equal(events["time_us"], self._time), True).as_py()
        self._begun = first >= 0
        if self._begun:
            self._tell_gap(self._time, events["time_us"][first].as_py())
        return _from(first if self._begun else events.num_rows, events, rejected)

    def _tell_gap(self, asked_us: int, begun_us: int) -> None:
        if begun_us - asked_us > _TOLD_GAP_US:
            asked, begun = (from_us(time_us).strftime("%Y-%m-%d %H:%M") for time_us in (asked_us, begun_us))
            self.gap = f"sends nothing from {asked} to {begun} UTC; it may no longer have what lies between"


def _from(
    first: int, events: pa.RecordBatch, rejected: Sequence[Rejected]
) -> tuple[pa.RecordBatch, tuple[Rejected, ...]]:
    """The part of a batch from its `first` event on; all of its rejected messages that do not lie before that."""
    later = (replace(message, after=message.after - first) for message in rejected if message.after >= first)
    return events.slice(first), tuple(later)
