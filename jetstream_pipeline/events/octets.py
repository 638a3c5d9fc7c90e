"""Texts that lie one after the other in memory, as an array of Arrow's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def strings(lengths: np.ndarray, text: np.ndarray, present: np.ndarray | None = None) -> pa.StringArray:
    """Texts of these lengths, one after the other; null where `present` (a mask) says that there is none."""
    validity = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets(lengths)), pa.py_buffer(text), validity)


def offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where texts of these lengths begin, one after the other, and where the last one ends."""
    places = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=places[1:])
    return places
