"""The last stretch of a stream, by which what is delivered again is recognised. Bounded, whatever a host sends."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected

_MAX_KEYS = 500_000
_IDENTITY = ("did", "kind", "rev", "collection", "rkey", "operation", "payload")
_SEPARATOR = "\x1f"


def identities(events: pa.RecordBatch) -> list[str]:
    """What makes each event itself, on any host: see the design's "Identity and order"."""
    columns = [events[name] for name in _IDENTITY]
    joined = pc.binary_join_element_wise(*columns, _SEPARATOR, null_handling="replace", null_replacement="")
    return joined.to_pylist()


def digests(rejected: Iterable[Rejected]) -> list[bytes]:
    return [hashlib.sha256(message.message).digest() for message in rejected]


@dataclass(frozen=True)
class _Stretch:
    ends_at: int
    keys: Sequence[str]
    rejected: Sequence[bytes]


class Recent:
    """Identities of the events of the last `span_us` of stream time, half a million at most."""

    def __init__(self, span_us: int) -> None:
        self._span_us = span_us
        self._stretches: deque[_Stretch] = deque()
        self._keys: set[str] = set()
        self._size = 0
        self.position = 0
        """The latest time seen, in unix microseconds: it never steps back."""

    def fresh(self, events: pa.RecordBatch) -> list[bool]:
        """Which of the events have not been seen; each is seen from then on."""
        keys = identities(events)
        result = []
        for key in keys:
            result.append(key not in self._keys)
            self._keys.add(key)
        new = [key for key, is_new in zip(keys, result, strict=True) if is_new]
        if events.num_rows:
            self.position = max(self.position, pc.max(events["time_us"]).as_py())
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
        while self._stretches and (self._size > _MAX_KEYS or self._stretches[0].ends_at < oldest):
            left = self._stretches.popleft()
            self._size -= len(left.keys) + len(left.rejected)
            self._keys.difference_update(left.keys)
