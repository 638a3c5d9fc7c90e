"""The last stretch of a stream, by which what is delivered again is recognised. Bounded, whatever a host sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected
from jetstream_pipeline.events.identity import digests, identities

_MIN_KEYS = 20_000
"""Kept however old: a host that crashed witnesses its last few thousand events again, at later times."""
MAX_KEYS = 500_000
_WITNESSES = 3


class Position:
    """How far a stream has come: the third-latest time seen, since one event's time may be imported or wrong."""

    def __init__(self) -> None:
        self._latest: list[int] = []

    @property
    def time_us(self) -> int:
        """Unix microseconds; 0 before anything came. Never steps back."""
        return self._latest[0] if self._latest else 0

    def add(self, times: pa.Array) -> None:
        latest = times.take(pc.top_k_unstable(times, _WITNESSES))
        self._latest = sorted([*self._latest, *latest.to_pylist()])[-_WITNESSES:]


@dataclass(frozen=True)
class _Stretch:
    ends_at: int
    keys: Sequence[str]
    rejected: Sequence[bytes]


class Recent:
    """Identities of the events of the last `span_us` of stream time: 20,000 at least, half a million at most."""

    def __init__(self, span_us: int) -> None:
        self._span_us = span_us
        self._stretches: deque[_Stretch] = deque()
        self._keys: set[str] = set()
        self._size = 0
        self._wary = 0
        """Keys that are to be looked for before they are added, since there were repeats lately."""
        self._position = Position()

    @property
    def position(self) -> int:
        """How far the stream has come, in unix microseconds."""
        return self._position.time_us

    def begins_with_known(self, events: pa.RecordBatch) -> bool:
        """Whether the first event has been seen."""
        return events.num_rows > 0 and identities(events.slice(0, 1))[0].as_py() in self._keys

    def knows_any(self, events: pa.RecordBatch) -> bool:
        """Whether one of the events has been seen."""
        return not self._keys.isdisjoint(identities(events).to_pylist())

    def fresh(self, events: pa.RecordBatch) -> pa.BooleanArray:
        """Which of the events have not been seen; each is seen from then on."""
        keys = identities(events).to_pylist()
        if self._add_new(keys):
            result = pa.repeat(pa.scalar(True), len(keys))
        else:
            result = self._first_seen(keys)
            events = events.filter(result)
            keys = pa.array(keys, pa.string()).filter(result).to_pylist()
            self._keys.update(keys)
        self._position.add(events["time_us"])
        self._add(_Stretch(self.position, keys, ()))
        return result

    def _add_new(self, keys: Sequence[str]) -> bool:
        """Add keys if all of them are new, and no two the same."""
        if self._wary > 0 and not (len(set(keys)) == len(keys) and self._keys.isdisjoint(keys)):
            self._wary = len(self._keys)
            return False
        self._wary = max(self._wary - len(keys), 0)
        before = len(self._keys)
        self._keys.update(keys)
        if len(self._keys) == before + len(keys):
            return True
        # To look for each beforehand costs more, in all, where repeats are rare.
        self._keys = {key for stretch in self._stretches for key in stretch.keys}
        self._wary = len(self._keys)
        return False

    def _first_seen(self, keys: Sequence[str]) -> pa.BooleanArray:
        """Which of the keys are new and have not come earlier among these."""
        first = {key: number for number, key in reversed([*enumerate(keys)])}
        return pa.array([key not in self._keys and first[key] == number for number, key in enumerate(keys)], pa.bool_())

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Remember messages that are no events."""
        self.reject_digests(digests(rejected))

    def reject_digests(self, known: Sequence[bytes]) -> None:
        """Remember messages by what `identity.digests` makes of them."""
        self._add(_Stretch(self.position, (), known))

    def rejected(self) -> set[bytes]:
        return {digest for stretch in self._stretches for digest in stretch.rejected}

    def _add(self, stretch: _Stretch) -> None:
        self._stretches.append(stretch)
        self._size += len(stretch.keys) + len(stretch.rejected)
        oldest = self.position - self._span_us
        while self._stretches and (
            self._size > MAX_KEYS or (self._size > _MIN_KEYS and self._stretches[0].ends_at < oldest)
        ):
            left = self._stretches.popleft()
            self._size -= len(left.keys) + len(left.rejected)
            self._keys.difference_update(left.keys)
