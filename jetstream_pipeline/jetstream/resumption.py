"""Where a stream that ended goes on: which cursor to ask which host for, and what of the answer to leave out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from jetstream_pipeline.events.crossing import crossing
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.recent import Recent
from jetstream_pipeline.window import from_us

FIRST_TIME_CURSOR = 10**15
"""From here on a cursor is unix microseconds, below it a sequence number of one host."""

REWIND_US = 5_000_000
HOST_SKEW_US = 30_000_000
"""How much earlier another host may have witnessed an event, where nobody says otherwise."""
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

    def __init__(self, cursor: int | None, skew_us: int = HOST_SKEW_US) -> None:
        self._asked = cursor
        self._skew_us = skew_us
        self._floor_us = cursor if cursor and cursor >= FIRST_TIME_CURSOR else None
        self._serving: Host | None = None
        self._numbers: _Numbers | None = None
        self._restored = False
        self._reached_us = 0
        self.recent = Recent(2 * skew_us + REWIND_US)

    def restore(self, events: Iterable[pa.RecordBatch], rejected: Sequence[bytes]) -> None:
        """Go on where another process stopped: these are the last events that it kept, in order, and the digests of
        the messages that were none. Whichever host serves is asked as a new one is."""
        for batch in events:
            self._restored = True
            self.recent.fresh(batch)
        self.recent.reject_digests(rejected)

    @property
    def begun(self) -> bool:
        return self._serving is not None or self._restored

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
        position = max(self.recent.position, self._reached_us)
        if host == self._serving:
            return max(position - REWIND_US, self._floor_us or 0)
        return max(position - self._skew_us, self._floor_us or 0 if self._restored else 0)

    def live_since(self, time_us: int) -> None:
        """A stream from the live tip that ends before anything came goes on from this time."""
        if self._asked is None:
            self._asked = time_us

    def reached(self, host: Host, time_us: int) -> None:
        """`host` was read up to this time (unix microseconds), however little of that the filter let through."""
        self._serving, self._reached_us = host, time_us
        if time_us - self.recent.position > REWIND_US:
            # Its last number may lie further back than its stream reaches.
            self._numbers = None

    def opening(self, cursor: int | None) -> Opening:
        return Opening(cursor, self.recent if self.begun else None)

    def distrust_numbers(self) -> bool:
        """Go on by time: the host hands out its numbers anew, or no longer has them. Whether that changes anything."""
        had_numbers, self._numbers = self._numbers is not None, None
        return had_numbers

    def saw(self, events: pa.RecordBatch, host: Host) -> pa.BooleanArray:
        """Which of the events are new."""
        if not events.num_rows:
            return pa.array([], pa.bool_())
        if self._floor_us is None:
            self._floor_us = events["time_us"][0].as_py()
        first, last = events["seq"][0].as_py(), events["seq"][-1].as_py()
        if first is None or last is None or max(first, last) >= FIRST_TIME_CURSOR:
            # A greater one would be taken for a time.
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
        self._undecided = Part()
        self.gap: str | None = None
        """What to tell of a stream that begins long after the time asked for: v1 hosts say nothing of it."""

    def trim(self, part: Part) -> Part:
        """Without what lies before the first event at or after the time asked for: newer servers begin up to an hour
        early. OtherNumbers where a sequence number was asked for and the first event is not one that it led back to."""
        if self._begun or not (part.events.num_rows or part.rejected):
            return part
        if self._time is None:
            if part.events.num_rows:
                if self._recent and not self._recent.begins_with_known(part.events):
                    raise OtherNumbers("its sequence numbers name other events than before")
                self._begun = True
            return part
        part = self._undecided.joined(part)
        return self._begin(part, self._time, final=part.is_crowded)

    def settle(self) -> Part:
        """What was kept back until more comes, when nothing does."""
        if self._begun or self._time is None or not self._undecided.events.num_rows:
            return Part()
        return self._begin(self._undecided, self._time, final=True)

    def _begin(self, part: Part, asked_us: int, *, final: bool) -> Part:
        before, self._begun = crossing(part.events, asked_us, final=final)
        rest = part.split(before)[1] if before else part
        if self._begun:
            self._tell_gap(asked_us, rest.events["time_us"][0].as_py())
        self._undecided = Part() if self._begun or not rest.events.num_rows else rest
        return Part() if self._undecided.events.num_rows else rest

    def _tell_gap(self, asked_us: int, begun_us: int) -> None:
        if begun_us - asked_us > _TOLD_GAP_US:
            asked, begun = (from_us(time_us).strftime("%Y-%m-%d %H:%M") for time_us in (asked_us, begun_us))
            self.gap = f"sends nothing from {asked} to {begun} UTC; it may no longer have what lies between"
