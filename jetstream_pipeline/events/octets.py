"""Many texts that lie in one stretch of memory, read at once: none becomes an object of Python's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_SHORT = 64
_REACHES = (32, _SHORT, 640)
"""How far the end of a field is looked for: not beyond the margin, with what comes after it."""
_INLINE = 12
_VIEW = np.dtype([("length", "<i4"), ("prefix", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
_SHORT_VIEW = np.dtype([("length", "<i4"), ("text", f"V{_INLINE}")])
"""How Arrow points to a text, and how to one that is short: its layout of variable-size binary views."""


class Unusual(Exception):
    """A text is not spelled as it usually is; `place`: in which row, where that is known and nothing else would read it
    either."""

    def __init__(self, reason: object, place: int | None = None) -> None:
        super().__init__(reason)
        self.place = place


@dataclass(frozen=True)
class Spans:
    """Texts of some rows: where in memory each begins, and where it has ended."""

    memory: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        lengths: np.ndarray = self.ends - self.starts
        return lengths

    def octets(self, number: int) -> np.ndarray:
        """The first octets of each text, and of what follows those that are shorter, in columns."""
        return _windows(self.memory, number)[self.starts].view(np.uint8).reshape(-1, number)

    def text(self) -> np.ndarray:
        """The octets of all texts, one after the other."""
        lengths = self.lengths
        width = int(lengths[0]) if len(lengths) else 0
        if 0 < width <= _SHORT and (lengths == width).all():
            return _windows(self.memory, width)[self.starts].view(np.uint8)
        return self._gathered()

    def _gathered(self) -> np.ndarray:
        views = np.zeros(len(self.starts), _VIEW)
        views["length"], views["offset"] = self.lengths, self.starts
        views["prefix"] = _windows(self.memory, 4)[self.starts]
        short = np.flatnonzero(views["length"] <= _INLINE)
        if len(short):
            inlined = Spans(self.memory, self.starts[short], self.ends[short])
            octets = inlined.octets(_INLINE)
            # Arrow wants nothing behind a text.
            octets[np.arange(_INLINE) >= inlined.lengths[:, None]] = 0
            views.view(_SHORT_VIEW)["text"][short] = octets.view(f"V{_INLINE}").ravel()
        buffers = [None, pa.py_buffer(views), pa.py_buffer(self.memory)]
        texts = pa.Array.from_buffers(pa.binary_view(), len(views), buffers).cast(pa.binary())
        # Arrow's memory may be larger than what lies in it.
        return np.frombuffer(texts.buffers()[2] or b"", np.uint8)[: int(self.lengths.sum())]


class Cursors:
    """Where the reading of each row stands: it goes on from the front, and from the back, and in between is the rest.

    There is a margin before the first row and behind the last one, and what lies between rows is in no literal.
    """

    def __init__(self, memory: np.ndarray, front: np.ndarray, back: np.ndarray) -> None:
        self.memory = memory
        self._front = front
        self._back = back

    def __len__(self) -> int:
        return len(self._front)

    def of(self, rows: np.ndarray) -> Cursors:
        """Those of some rows: their numbers, or a mask."""
        return Cursors(self.memory, self._front[rows], self._back[rows])

    def octet(self, ahead: int = 0) -> np.ndarray:
        """The octet that comes next in each row, or so far behind that one."""
        octets: np.ndarray = self.memory[self._front + ahead]
        return octets

    def goes_on(self, literal: bytes, behind: int) -> bool:
        """Whether each row has that, so many octets behind the next one."""
        return self._are(self._front + behind, literal)

    def skip(self, literal: bytes) -> None:
        """Unusual where a row does not go on with that."""
        if not self._are(self._front, literal):
            raise Unusual(literal)
        self._front = self._front + len(literal)

    def skip_back(self, literal: bytes) -> None:
        """Unusual where a row does not end in that."""
        self._back = self._back - len(literal)
        if not self._are(self._back, literal):
            raise Unusual(literal)

    def field(self, until: bytes, usual: int | None = None) -> Spans:
        """What comes before `until`, the first octet of which is not in it, and which is most often so long: if not
        said, as in the first row."""
        starts = self._front
        ends = starts + (self._distances(starts[:1], until[0]) if usual is None else usual)
        if not self._are(ends, until):
            others = np.flatnonzero(self._differ(ends, until))
            ends[others] = starts[others] + self._distances(starts[others], until[0])
            if not self._are(ends[others], until):
                raise Unusual(until)
        self._front = ends + len(until)
        return Spans(self.memory, starts, ends)

    def field_back(self, until: bytes, usual: int | None = None) -> Spans:
        """What follows the last `until`, the last octet of which is not in it."""
        ends, size = self._back, len(until)
        starts = ends - (self._distances(ends[:1], until[-1], back=True) if usual is None else usual)
        if not self._are(starts - size, until):
            others = np.flatnonzero(self._differ(starts - size, until))
            starts[others] = ends[others] - self._distances(ends[others], until[-1], back=True)
            if not self._are(starts[others] - size, until):
                raise Unusual(until)
        self._back = starts - size
        return Spans(self.memory, starts, ends)

    def rest(self) -> Spans:
        """What is between front and back."""
        return Spans(self.memory, self._front, self._back)

    def _are(self, places: np.ndarray, literal: bytes) -> bool:
        return _windows(self.memory, len(literal))[places].tobytes() == literal * len(places)

    def _differ(self, places: np.ndarray, literal: bytes) -> np.ndarray:
        """Where there is not that. Octet by octet: numpy compares short rows slowly."""
        found = self.memory[places] != literal[0]
        for ahead, octet in enumerate(literal[1:], 1):
            found |= self.memory[places + ahead] != octet
        return found

    def _distances(self, places: np.ndarray, octet: int, *, back: bool = False) -> np.ndarray:
        """How far each is from the next such octet, or from the end of the last one."""
        for reach in _REACHES:
            octets = _windows(self.memory, reach)[places - reach if back else places].view(np.uint8)
            found = octets.reshape(-1, reach)[:, :: -1 if back else 1] == octet
            distances: np.ndarray = found.argmax(1)
            if found[np.arange(len(distances)), distances].all():
                return distances
        raise Unusual(bytes([octet]))


def strings(lengths: np.ndarray, text: np.ndarray, present: np.ndarray | None = None) -> pa.StringArray:
    """Texts of these lengths, one after the other; null where `present` (a mask) says that there is none."""
    validity = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets(lengths)), pa.py_buffer(text), validity)


def offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where texts of these lengths begin, one after the other, and where the last one ends."""
    places = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=places[1:])
    return places


def _windows(memory: np.ndarray, width: int) -> np.ndarray:
    """All stretches of so many octets, by where they begin."""
    return np.ndarray((len(memory) - width + 1,), f"V{width}", memory, strides=(1,))
