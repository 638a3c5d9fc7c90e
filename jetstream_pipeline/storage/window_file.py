"""Writing a window's Parquet file: batches in, row groups of a fixed size out, what the file says of itself last.

Its bytes before the footer follow from its rows alone, not from the batches that they came in. DuckDB opens a file
twice, for the footer and for the data; when a window is replaced by the same rows in between, both still agree.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.storage.files import fsync_path, replacing, told
from jetstream_pipeline.storage.summary import SUMMARY_KEY, Counts, WindowSummary
from jetstream_pipeline.window import from_us

_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 48 * 1024 * 1024
_ROW_BYTES = 64
"""What a row takes beside its texts, roughly."""
_SMALL_BATCHES = 64
"""So many batches are made one while they wait: each costs some kilobytes, however few its rows are."""
_CONTENT_DIGITS = 32
_COLLECTIONS = 1000
"""Named in a summary: strangers invent as many as they like."""
_COUNTED = 20 * _COLLECTIONS


def write_window(
    path: Path, batches: Iterable[pa.RecordBatch], describe: Callable[[Counts], WindowSummary]
) -> WindowSummary:
    """Write events in the order given to `path`, durably, with what `describe` says of them."""
    rows, tally = RowGroups(path, EVENT_SCHEMA), _Tally()
    for batch in batches:
        rows.add(batch)
        tally.add(batch)
    summary = describe(tally.counts().model_copy(update={"content": rows.content()}))
    rows.finish({SUMMARY_KEY: summary.model_dump_json().encode()})
    return summary


def count(batches: Iterable[pa.RecordBatch]) -> Counts:
    """What a file of these events would hold; its `content` stays unknown."""
    tally = _Tally()
    for batch in batches:
        tally.add(batch)
    return tally.counts()


def emptied(path: Path, schema: pa.Schema, summary: WindowSummary) -> None:
    """Take the rows out of a file that a whole window supersedes. A query that has just listed it still finds it."""
    if path.exists():
        with replacing(path) as temporary:
            metadata = {SUMMARY_KEY: summary.model_dump_json().encode()}
            pq.write_table(schema.with_metadata(metadata).empty_table(), temporary)


class RowGroups:
    """A Parquet file that grows by row groups, bounded in rows and bytes.

    Its pages have checksums: without them most of the bits that flip would be read as data.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3, write_page_checksum=True)
        self._small: list[pa.RecordBatch] = []
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        sizes = row_sizes(batch)
        while batch.num_rows:
            taken, size, full = self._fitting(sizes)
            self._small.append(batch.slice(0, taken))
            if len(self._small) == _SMALL_BATCHES:
                self._gather()
            self._rows += taken
            self._bytes += size
            if full:
                self._flush()
            batch, sizes = batch.slice(taken), sizes.slice(taken)

    def _fitting(self, sizes: pa.Array) -> tuple[int, int, bool]:
        """How many of the rows go to the present group, their bytes, and whether it is full with them."""
        ends = pc.cumulative_sum(sizes.slice(0, _ROW_GROUP_ROWS - self._rows))
        over = pc.index(pc.greater_equal(ends, _ROW_GROUP_BYTES - self._bytes), True).as_py()
        taken = len(ends) if over < 0 else over + 1
        return taken, ends[taken - 1].as_py(), over >= 0 or self._rows + taken == _ROW_GROUP_ROWS

    def _gather(self) -> None:
        if self._small:
            self._waiting.append(pa.Table.from_batches(self._small).combine_chunks())
            self._small = []

    def _flush(self) -> None:
        self._gather()
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting, self._rows, self._bytes = [], 0, 0

    def content(self) -> str:
        """The identity of the rows so far, in their order; the row group that was begun ends here."""
        self._flush()
        with told(self.path, "read"), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_CONTENT_DIGITS]

    def finish(self, metadata: dict[bytes, bytes] | None = None) -> None:
        self._flush()
        if metadata:
            self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        fsync_path(self.path)


def row_sizes(batch: pa.RecordBatch) -> pa.Array:
    """Each row's bytes, roughly. Strangers choose how long any of the texts is, not the record's alone."""
    sizes = pa.array([_ROW_BYTES] * batch.num_rows, pa.int64())
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            sizes = pc.add(sizes, pc.fill_null(pc.binary_length(column), 0))
    return sizes


class _Tally:
    """Counts over a file's events. What it keeps is bounded, whatever names the events have."""

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
