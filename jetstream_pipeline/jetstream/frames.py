"""Whole messages found in what a server sends: plain frames of RFC 6455, many at once. What any other frame means is
the transport's to know."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jetstream_pipeline.compiled import framing
from jetstream_pipeline.events.messages import BLANK, Messages

_PLAIN = (0x81, 0x82)
"""A text or a binary frame that is a whole message: nothing reserved is set."""
_SHORT, _LONG = 126, 127
"""What stands for a length of two bytes, and of eight."""


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


def plain(memory: np.ndarray, octets: memoryview, at: int, end: int, most: int) -> Messages:
    """The whole plain frames from `at` on, as far as nothing else comes; none of more than `most` bytes. `octets`,
    the same memory, is changed: there are line breaks where the headers were."""
    if framing:
        starts, ends = framing.plain_frames(memory, at, end, most, BLANK)
    else:
        starts, ends = _plain_frames(octets, at, end, most)
    return Messages(memory, starts, ends)


def _plain_frames(octets: memoryview, at: int, end: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """What `framing.plain_frames` does, frame by frame."""
    starts, ends = [], []
    while (found := header(octets, at, end)) and found.is_plain and found.length is not None:
        if found.length > most or found.start + found.length > end:
            break
        octets[at : found.start] = bytes((BLANK,)) * (found.start - at)
        at = found.start + found.length
        starts.append(found.start)
        ends.append(at)
    return np.array(starts, np.int64), np.array(ends, np.int64)
