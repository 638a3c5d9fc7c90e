"""A block's content as it lies in memory: how its columns follow each other. What they mean is `block`'s."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from jetstream_pipeline.archive.errors import DamagedSegment

MAX_ROWS = 1 << 18
"""The most that a server puts into one block; 4,096 by default."""

TEXTS = ("collection", "did", "rkey", "rev")
_NUMBERS = {"seq": "<u8", "witnessed_us": "<i8", "indexed_us": "<i8", "kind": "u1"}
_LENGTHS = {"collection": "u1", "did": "<u2", "rkey": "u1", "rev": "u1", "payload": "<u4"}
_COUNT_BYTES = 4
_ROW_BYTES = sum(np.dtype(kind).itemsize for kind in (*_NUMBERS.values(), *_LENGTHS.values()))


@dataclass(frozen=True)
class Columns:
    """The rows of one block, of which there are `rows`."""

    content: bytes
    rows: int
    numbers: dict[str, np.ndarray]
    """`seq`, `witnessed_us`, `indexed_us` (0: none), `kind`."""
    places: dict[str, np.ndarray]
    """For `TEXTS` and `payload`: where each row's value begins in the content, and where the last one ends."""

    @classmethod
    def read(cls, content: bytes, where: str) -> Columns:
        """DamagedSegment where the lengths that it gives do not add up to the content exactly."""
        rows = int.from_bytes(content[:_COUNT_BYTES], "little")
        begins = _COUNT_BYTES + rows * _ROW_BYTES
        if rows > MAX_ROWS or len(content) < begins:
            raise DamagedSegment(where, f"{len(content)} bytes of content cannot hold {rows} events")
        arrays: dict[str, np.ndarray] = {}
        place = _COUNT_BYTES
        for name, kind in (*_NUMBERS.items(), *((f"{name} length", kind) for name, kind in _LENGTHS.items())):
            arrays[name] = np.frombuffer(content, kind, rows, place)
            place += arrays[name].nbytes
        places: dict[str, np.ndarray] = {}
        for name in _LENGTHS:
            places[name] = np.concatenate([[place], place + np.cumsum(arrays[f"{name} length"], dtype=np.int64)])
            place = int(places[name][-1])
        if place != len(content):
            raise DamagedSegment(where, f"its events take {place} bytes of content, which has {len(content)}")
        return cls(content, rows, {name: arrays[name] for name in _NUMBERS}, places)

    def lengths(self, name: str) -> np.ndarray:
        """The length of each row's value in bytes."""
        return np.diff(self.places[name])

    def text(self, name: str) -> pa.StringArray:
        """One of `TEXTS`, in memory of its own. Nobody has looked yet whether it is UTF-8."""
        places = self.places[name]
        values = pa.py_buffer(self.content[places[0] : places[-1]])
        return pa.StringArray.from_buffers(self.rows, pa.py_buffer((places - places[0]).astype(np.int32)), values)

    def undecodable(self, name: str) -> list[int]:
        """The rows in which one of `TEXTS` is not UTF-8."""
        places = self.places[name]
        if self.content[places[0] : places[-1]].isascii():
            return []
        return [
            row for row, (start, end) in enumerate(pairwise(places.tolist())) if not _is_utf8(self.content[start:end])
        ]

    def payloads(self, rows: np.ndarray) -> list[bytes]:
        """The payloads of these rows."""
        places = self.places["payload"]
        bounds = zip(places[:-1][rows].tolist(), places[1:][rows].tolist(), strict=True)
        return [self.content[start:end] for start, end in bounds]

    def alone(self, row: int) -> bytes:
        """The content of a block that holds this row only."""
        numbers = [array[row : row + 1].tobytes() for array in self.numbers.values()]
        bounds = {name: self.places[name][row : row + 2].tolist() for name in _LENGTHS}
        lengths = [np.array([end - start], _LENGTHS[name]).tobytes() for name, (start, end) in bounds.items()]
        values = [self.content[start:end] for start, end in bounds.values()]
        return b"".join([(1).to_bytes(_COUNT_BYTES, "little"), *numbers, *lengths, *values])


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
