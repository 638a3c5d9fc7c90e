"""Counting what a window's file holds. What is kept is bounded, whatever names the events have."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.storage.summary import Counts
from jetstream_pipeline.window import from_us

_COLLECTIONS = 1000
"""Named in a summary: strangers invent as many as they like."""
_COUNTED = 20 * _COLLECTIONS


class Tally:
    """Counts over a file's events, in stream order."""

    def __init__(self) -> None:
        self._events = 0
        self._first_us: int | None = None
        self._last_us: int | None = None
        self._kinds: Counter[str] = Counter()
        self._collections: Counter[str] = Counter()

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        self._events += batch.num_rows
        times = batch["time_us"]
        self._first_us = times[0].as_py() if self._first_us is None else self._first_us
        self._last_us = times[-1].as_py()
        self._kinds.update(_counts(batch["kind"]))
        self._collections.update(_counts(batch["collection"]))
        if len(self._collections) > _COUNTED:
            self._collections = _most_frequent(self._collections)

    def counts(self) -> Counts:
        return Counts(
            events=self._events,
            first_time=None if self._first_us is None else from_us(self._first_us),
            last_time=None if self._last_us is None else from_us(self._last_us),
            counts_by_kind=dict(self._kinds),
            counts_by_collection=dict(_most_frequent(self._collections)),
        )


def _counts(values: pa.Array) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values.drop_null()).to_pylist()}


def _most_frequent(collections: Counter[str]) -> Counter[str]:
    if len(collections) <= _COLLECTIONS:
        return collections
    kept = Counter(dict(collections.most_common(_COLLECTIONS)))
    kept[""] += collections.total() - kept.total()
    return kept
