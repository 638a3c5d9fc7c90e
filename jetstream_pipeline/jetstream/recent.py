"""The last stretch of a stream, by which what is delivered again is recognised. Bounded, whatever a host sends."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected

_MIN_KEYS = 20_000
"""Kept however old: a host that crashed witnesses its last few thousand events again, at later times."""
_MAX_KEYS = 500_000
_WITNESSES = 3
_COMMIT_IDENTITY = ("did", "kind", "rev", "collection", "rkey", "operation")
_SEPARATOR = "\x1f"


class _Upstream(msgspec.Struct):
    seq: int | None = None


_upstream = msgspec.json.Decoder(_Upstream)


def identities(events: pa.RecordBatch) -> list[str]:
    """What makes each event itself, on any host: see the design's "Identity and order"."""
    columns = [events[name] for name in _COMMIT_IDENTITY]
    bodies = [None if payload is None else _body_identity(payload) for payload in events["payload"].to_pylist()]
    columns.append(pa.array(bodies, pa.string()))
    joined = pc.binary_join_element_wise(*columns, _SEPARATOR, null_handling="replace", null_replacement="")
    return joined.to_pylist()


def _body_identity(payload: str) -> str:
    try:
        seq = _upstream.decode(payload).seq
    except msgspec.DecodeError:
        seq = None
    return payload if seq is None else str(seq)


def digests(rejected: Iterable[Rejected]) -> list[bytes]:
    return [hashlib.sha256(message.message).digest() for message in rejected]


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
        self._position = Position()

    @property
    def position(self) -> int:
        """How far the stream has come, in unix microseconds."""
        return self._position.time_us

    def known(self, events: pa.RecordBatch) -> bool:
        """Whether the first event has been seen."""
        return events.num_rows > 0 and identities(events.slice(0, 1))[0] in self._keys

    def fresh(self, events: pa.RecordBatch) -> list[bool]:
        """Which of the events have not been seen; each is seen from then on."""
        keys = identities(events)
        result = []
        for key in keys:
            result.append(key not in self._keys)
            self._keys.add(key)
        new = [key for key, is_new in zip(keys, result, strict=True) if is_new]
        self._position.add(events["time_us"].filter(pa.array(result, pa.bool_())))
        self._add(_Stretch(self.position, new, ()))
        return result

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Remember messages that are no events."""
        self._add(_Stretch(self.position, (), digests(rejected)))

    def rejected(self) -> set[bytes]:
        return {digest for stretch in self._stretches for digest in stretch.rejected}

    def _add(self, stretch: _Stretch) -> None:
        self._stretches.append(stretch)
        self._size += len(stretch.keys) + len(stretch.rejected)
        oldest = self.position - self._span_us
        while self._stretches and (
            self._size > _MAX_KEYS or (self._size > _MIN_KEYS and self._stretches[0].ends_at < oldest)
        ):
            left = self._stretches.popleft()
            self._size -= len(left.keys) + len(left.rejected)
            self._keys.difference_update(left.keys)
