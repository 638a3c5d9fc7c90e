"""Writing a window's Parquet file: batches in, row groups of a fixed size out, what the file says of itself last.

Its bytes before the footer follow from its rows alone, not from the batches that they came in. DuckDB opens a file
twice, for the footer and for the data; when a window is replaced by the same rows in between, both still agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jetstream_pipeline.storage.behind import Behind
from jetstream_pipeline.storage.event_layout import FILE_SCHEMA, WRITING, arranged
from jetstream_pipeline.storage.files import exists, fsync_path, replacing, told
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.summary import SUMMARY_KEY, Counts, WindowSummary
from jetstream_pipeline.storage.tally import Tally

_ROW_GROUP_ROWS = 131_072
_ROW_GROUP_BYTES = 80 * 1024 * 1024
"""Two of them may be in memory, one that is written and the next one, beside what arranging and encoding take."""
_BLOCK_ROWS = 16_384
"""Are arranged together: a row group at once would be in memory twice."""
_ROW_BYTES = 64
"""What a row takes beside its texts, roughly."""
_SMALL_BATCHES = 64
"""So many batches are made one while they wait: each costs some kilobytes, however few its rows are."""
_CONTENT_DIGITS = 32
_READ_BYTES = 1 << 20
_Summary = TypeVar("_Summary", bound=Counts)


class WindowWriter:
    """A window's file that grows by its events, in stream order. It is not one before it is finished."""

    def __init__(self, path: Path) -> None:
        self._content = _Content(path)
        self._rows = RowGroups(path, FILE_SCHEMA, arranged, self._content.follow, **WRITING)
        self._tally = Tally()

    def add(self, events: pa.RecordBatch) -> None:
        self._rows.add(events)
        self._tally.add(events)

    def finish(self, describe: Callable[[Counts], _Summary], key: bytes = SUMMARY_KEY) -> _Summary:
        """Make the file durable, with what `describe` says of what it holds."""
        self._rows.flush()
        # A file without rows begins somehow too.
        self._content.follow()
        summary = describe(self._tally.counts().model_copy(update={"content": self._content.identity}))
        self._rows.finish({key: summary.model_dump_json().encode()})
        return summary

    def close(self) -> None:
        """End the thread that writes."""
        self._rows.close()


class _Content:
    """The identity of a file's rows, in their order: it is read while the file grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self._size = 0

    def follow(self) -> None:
        """Take in what was written since."""
        with told(self._path, "read"):
            if self._path.stat().st_size > self._size:
                with self._path.open("rb", buffering=0) as file:
                    file.seek(self._size)
                    while read := file.read(_READ_BYTES):
                        self._hash.update(read)
                        self._size += len(read)

    @property
    def identity(self) -> str:
        return self._hash.hexdigest()[:_CONTENT_DIGITS]


def write_window(
    path: Path, batches: Iterable[pa.RecordBatch], describe: Callable[[Counts], WindowSummary]
) -> WindowSummary:
    """Write events in the order given to `path`, durably, with what `describe` says of them."""
    with closing(WindowWriter(path)) as writer:
        for batch in batches:
            writer.add(batch)
        return writer.finish(describe)


def count(batches: Iterable[pa.RecordBatch]) -> Counts:
    """What a file of these events would hold; its `content` stays unknown."""
    tally = Tally()
    for batch in batches:
        tally.add(batch)
    return tally.counts()


def emptied(path: AnyPath, schema: pa.Schema, summary: WindowSummary) -> None:
    """Take the rows out of a file that a whole window supersedes. A query that has just listed it still finds it."""
    if exists(path):
        with replacing(path) as temporary:
            metadata = {SUMMARY_KEY: summary.model_dump_json().encode()}
            pq.write_table(schema.with_metadata(metadata).empty_table(), temporary)


Arrangement = Callable[[pa.RecordBatch, int], Iterable[tuple[str, pa.RecordBatch]]]
"""Makes rows, the first of which has that number in the file, what is written of them, in pieces: those of a row group
are written in the order of their keys."""


def as_given(rows: pa.RecordBatch, first: int) -> Iterable[tuple[str, pa.RecordBatch]]:
    return [("", rows)]


class RowGroups:
    """A Parquet file that grows by row groups, bounded in rows and bytes.

    A row group is written in a thread of its own, while the next one is added to: an error there is raised by a later
    call. Its pages have checksums: without them most of the bits that flip would be read as data.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        arrangement: Arrangement = as_given,
        written: Callable[[], None] = lambda: None,
        **writing: Any,
    ) -> None:
        """`written` is called when a row group is in the file, in the other thread."""
        self.path = path
        self._behind = Behind("row-groups")
        self._written = written
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True, **({"compression": "zstd"} | writing))
        self._arrangement = arrangement
        self._small: list[pa.RecordBatch] = []
        self._block: list[pa.RecordBatch] = []
        self._pieces: list[tuple[str, pa.RecordBatch]] = []
        self._arranged = 0
        """Rows of the file that are written, or among the pieces."""
        self._rows = self._bytes = self._block_rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            taken, size, full = self._fitting(batch)
            self._small.append(batch.slice(0, taken))
            self._rows += taken
            self._bytes += size
            self._block_rows += taken
            if len(self._small) == _SMALL_BATCHES:
                self._gather()
            if full:
                self._end_row_group()
            elif self._block_rows == _BLOCK_ROWS:
                self._arrange()
            batch = batch.slice(taken)

    def _fitting(self, batch: pa.RecordBatch) -> tuple[int, int, bool]:
        """How many of the rows go to the present block, their bytes, and whether its row group is full with them."""
        rows = batch.slice(0, min(_ROW_GROUP_ROWS - self._rows, _BLOCK_ROWS - self._block_rows))
        taken, size = rows.num_rows, rows_size(rows)
        is_over = self._bytes + size >= _ROW_GROUP_BYTES
        if is_over:
            ends = pc.cumulative_sum(row_sizes(rows))
            taken = 1 + pc.index(pc.greater_equal(ends, _ROW_GROUP_BYTES - self._bytes), True).as_py()
            size = ends[taken - 1].as_py()
        return taken, size, is_over or self._rows + taken == _ROW_GROUP_ROWS

    def _gather(self) -> None:
        if self._small:
            self._block.append(pa.concat_batches(self._small))
            self._small = []

    def _arrange(self) -> None:
        """Blocks are of so many rows, wherever their batches end: what is written follows from the rows alone."""
        block, self._block, self._small = [*self._block, *self._small], [], []
        if block:
            rows = pa.concat_batches(block)
            block.clear()
            self._pieces += self._arrangement(rows, self._arranged)
            self._arranged += self._block_rows
            self._block_rows = 0

    def _end_row_group(self) -> None:
        self._arrange()
        if self._pieces:
            pieces, self._pieces = sorted(self._pieces, key=itemgetter(0)), []
            self._rows = self._bytes = 0
            self._behind.do(partial(self._write, [rows for _, rows in pieces]))

    def _write(self, pieces: Sequence[pa.RecordBatch]) -> None:
        rows = pa.Table.from_batches(pieces)
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._written()

    def flush(self) -> None:
        """Write what is not written yet."""
        self._end_row_group()
        self._behind.wait()

    def finish(self, metadata: dict[bytes, bytes] | None = None) -> None:
        """Make the file whole, and durable."""
        self.flush()
        if metadata:
            self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        fsync_path(self.path)

    def close(self) -> None:
        """End the thread that writes."""
        self._behind.close()


def row_sizes(batch: pa.RecordBatch) -> pa.Array:
    """Each row's bytes, roughly. Strangers choose how long any of the texts is, not the record's alone."""
    sizes = pa.repeat(pa.scalar(_ROW_BYTES, pa.int64()), batch.num_rows)
    for column in _texts(batch):
        sizes = pc.add(sizes, pc.fill_null(pc.binary_length(column), 0))
    return sizes


def rows_size(batch: pa.RecordBatch) -> int:
    """The sum of `row_sizes`."""
    size: int = _ROW_BYTES * batch.num_rows
    return size + sum(pc.sum(pc.binary_length(column)).as_py() or 0 for column in _texts(batch))


def _texts(batch: pa.RecordBatch) -> Iterator[pa.Array]:
    return (one for one in batch.columns if pa.types.is_string(one.type) or pa.types.is_binary(one.type))
