"""Whole messages found in what a server sends: plain frames of RFC 6455, many at once. What any other frame means is
the transport's to know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jetstream_pipeline.events.messages import BLANK, Messages

_PLAIN = (0x81, 0x82)
"""A text or a binary frame that is a whole message: nothing reserved is set."""
_SHORT, _LONG = 126, 127
"""What stands for a length of two bytes, and of eight."""
_WORTH_BYTES = 8_192
"""From here on frames are sought all at once."""


class Header(NamedTuple):
    """The beginning of a frame: its first byte, where its payload begins, and how long that is; None where a mask,
    which no server may use, makes that senseless."""

    kind: int
    start: int
    length: int | None

    @property
    def is_plain(self) -> bool:
        return self.kind in _PLAIN and self.length is not None


def header(octets: memoryview, at: int, end: int) -> Header | None:
    """The header at `at`; None where it is not all there."""
    if end - at < 2:
        return None
    kind, length = octets[at], octets[at + 1]
    if length > _LONG:
        return Header(kind, at + 2, None)
    size = {_SHORT: 2, _LONG: 8}.get(length, 0)
    if end - at < 2 + size:
        return None
    if size:
        length = int.from_bytes(octets[at + 2 : at + 2 + size], "big")
    return Header(kind, at + 2 + size, length)


def plain(memory: np.ndarray, octets: memoryview, at: int, end: int, most: int) -> Iterator[Messages]:
    """The whole plain frames from `at` on, as far as nothing else comes; none of more than `most` bytes. `octets`,
    the same memory, is changed: there are line breaks where the headers were."""
    if end - at >= _WORTH_BYTES:
        places, starts, ends = _chain(memory, at, end)
        if len(starts):
            memory[places] = memory[places + 1] = BLANK
            memory[starts - 2] = memory[starts - 1] = BLANK
            at = int(ends[-1])
            yield Messages(memory, starts, ends)
    starts_left, ends_left = [], []
    while (found := header(octets, at, end)) and found.is_plain and found.length is not None:
        if found.length > most or found.start + found.length > end:
            break
        octets[at : found.start] = bytes((BLANK,)) * (found.start - at)
        at = found.start + found.length
        starts_left.append(found.start)
        ends_left.append(at)
    if starts_left:
        yield Messages(memory, np.array(starts_left), np.array(ends_left))


def _chain(memory: np.ndarray, at: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, and where their payloads begin and end, of the kind of the first one and with lengths of two bytes at
    most, each of which begins where the one before it ends: whatever looks like a header elsewhere is none."""
    kind = memory[at]
    places = np.flatnonzero(memory[at : end - 3] == kind) + at if kind in _PLAIN else np.empty(0, np.int64)
    lengths = memory[places + 1].astype(np.int64)
    if (lengths > _SHORT).any():
        places, lengths = places[lengths <= _SHORT], lengths[lengths <= _SHORT]
    is_short = lengths < _SHORT
    starts = places + np.where(is_short, 2, 4)
    ends = starts + np.where(is_short, lengths, (memory[places + 2].astype(np.int64) << 8) + memory[places + 3])
    if (places[:1] != at).any():
        return places[:0], places[:0], places[:0]
    if (places[1:] != ends[:-1]).any():
        # Messages begin alike, which most of what only looks like a header does not.
        alike = memory[starts] == memory[starts[0]]
        places, starts, ends = places[alike], starts[alike], ends[alike]
    if (places[1:] != ends[:-1]).any():
        rows = _following(places, ends)
        places, starts, ends = places[rows], starts[rows], ends[rows]
    whole = np.count_nonzero(ends <= end)
    return places[:whole], starts[:whole], ends[:whole]


def _following(places: np.ndarray, ends: np.ndarray) -> list[int]:
    """The numbers of those that follow each other, from the first one on."""
    found = np.searchsorted(places, ends)
    found[places.take(found, mode="clip") != ends] = len(places)
    after = found.tolist()
    rows, row = [], 0
    while row < len(after):
        rows.append(row)
        row = after[row]
    return rows
