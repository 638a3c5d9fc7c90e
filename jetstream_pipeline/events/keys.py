"""Identities as keys by which many events are looked up at once: numbers, where that is compiled, and texts where it is
not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from jetstream_pipeline.compiled import known
from jetstream_pipeline.events.identity import identities, identity_parts


class KnownTexts:
    """A set of keys that are texts."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def have(self, keys: np.ndarray) -> np.ndarray:
        """Which of the keys are here."""
        return np.fromiter((key in self._keys for key in keys), np.bool_, len(keys))

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Add the keys, and tell which were not here, nor earlier among these."""
        new = np.empty(len(keys), np.bool_)
        for row, key in enumerate(keys):
            before = len(self._keys)
            self._keys.add(key)
            new[row] = len(self._keys) > before
        return new

    def forget(self, keys: np.ndarray) -> None:
        """Remove keys."""
        self._keys.difference_update(keys)


KnownKeys = known.Numbers if known else KnownTexts
"""A set of what `identity_keys` gives."""


def identity_keys(events: pa.RecordBatch) -> np.ndarray:
    """A key for each event, which is the same where the identity is, and nowhere else: a row of the array."""
    return number_keys(events) if known else text_keys(events)


def text_keys(events: pa.RecordBatch) -> np.ndarray:
    keys: np.ndarray = identities(events).to_numpy(zero_copy_only=False)
    return keys


def number_keys(events: pa.RecordBatch) -> np.ndarray:
    states = np.empty((events.num_rows, 4), np.uint64)
    known.begin(states)
    for part in identity_parts(events):
        texts = part.fill_null("") if part.null_count else part
        _, offsets, octets = texts.buffers()
        places = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
        known.add_texts(states, places, np.frombuffer(octets or b"", np.uint8))
    return known.finished(states)
