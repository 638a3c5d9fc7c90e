"""The last stretch of a stream, by which what is delivered again is recognised. Bounded, whatever a host sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected
from jetstream_pipeline.events.identity import digests
from jetstream_pipeline.events.keys import KnownKeys, identity_keys
from jetstream_pipeline.events.schema import NO_EVENTS

_MIN_KEYS = 20_000
"""Kept however old: a host that crashed witnesses its last few thousand events again, at later times."""
MAX_KEYS = 500_000
_WITNESSES = 3
_NO_KEYS = identity_keys(NO_EVENTS)


class Position:
    """How far a stream has come: the third-latest of all times seen, since one commit's may be imported or wrong. The
    operations of a commit share theirs."""

    def __init__(self) -> None:
        self._latest: list[int] = []

    @property
    def time_us(self) -> int:
        """Unix microseconds; 0 before anything came. Never steps back."""
        return self._latest[0] if self._latest else 0

    def add(self, times: pa.Array) -> None:
        times = pc.unique(times)
        latest = times.take(pc.top_k_unstable(times, _WITNESSES))
        self._latest = sorted({*self._latest, *latest.to_pylist()})[-_WITNESSES:]


@dataclass(frozen=True)
class _Stretch:
    ends_at: int
    keys: np.ndarray
    rejected: Sequence[bytes]


class Recent:
    """Identities of the events of the last `span_us` of stream time: 20,000 at least, half a million at most."""

    def __init__(self, span_us: int) -> None:
        self._span_us = span_us
        self._stretches: deque[_Stretch] = deque()
        self._keys = KnownKeys()
        self._size = 0
        self._position = Position()

    @property
    def position(self) -> int:
        """How far the stream has come, in unix microseconds."""
        return self._position.time_us

    def begins_with_known(self, events: pa.RecordBatch) -> bool:
        """Whether the first event has been seen."""
        return self.knows_any(events.slice(0, 1))

    def knows_any(self, events: pa.RecordBatch) -> bool:
        """Whether one of the events has been seen."""
        return bool(self._keys.have(identity_keys(events)).any())

    def fresh(self, events: pa.RecordBatch) -> pa.BooleanArray:
        """Which of the events have not been seen; each is seen from then on."""
        keys = identity_keys(events)
        new = self._keys.add(keys)
        if not new.all():
            events, keys = events.filter(pa.array(new)), keys[new]
        self._position.add(events["time_us"])
        self._add(_Stretch(self.position, keys, ()))
        return pa.array(new)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Remember messages that are no events."""
        self.reject_digests(digests(rejected))

    def reject_digests(self, known: Sequence[bytes]) -> None:
        """Remember messages by what `identity.digests` makes of them."""
        self._add(_Stretch(self.position, _NO_KEYS, known))

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
            self._keys.forget(left.keys)
