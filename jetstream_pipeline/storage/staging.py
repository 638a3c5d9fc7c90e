"""A window while it is being written: batches go to files out of readers' sight, and into the lake in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.storage.errors import StorageError, WindowBusy
from jetstream_pipeline.storage.files import fsync_path, locked, make_directory, replacing, told
from jetstream_pipeline.storage.lake import SUMMARY_KEY, WindowSummary, check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import QUARANTINE_SCHEMA
from jetstream_pipeline.window import Window

_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 48 * 1024 * 1024
_ROW_BYTES = 64
"""What a row takes beside its texts, roughly."""

_SMALL_BATCHES = 64
"""So many batches are made one while they wait: each costs some kilobytes, however few its rows are."""


class _Rows:
    """A Parquet file that grows by row groups, bounded in rows and bytes.

    Its bytes before the footer follow from its rows alone, not from the batches that they came in. DuckDB opens a file
    twice, for the footer and for the data; when a window is replaced by the same rows in between, both still agree.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)
        self._small: list[pa.RecordBatch] = []
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        sizes = _sizes(batch)
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

    def finish(self, metadata: dict[bytes, bytes] | None = None) -> None:
        self._flush()
        if metadata:
            self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        fsync_path(self.path)


def _sizes(batch: pa.RecordBatch) -> pa.Array:
    """Each row's bytes, roughly. Strangers choose how long any of the texts is, not the record's alone."""
    sizes = pa.array([_ROW_BYTES] * batch.num_rows, pa.int64())
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            sizes = pc.add(sizes, pc.fill_null(pc.binary_length(column), 0))
    return sizes


class StagedWindow:
    """The unfinished files of one window. Use `staged`, which also holds the window's lock."""

    def __init__(self, data: DataDirectory, stream: str, window: Window, folder: Path) -> None:
        self._data, self._stream, self._window = data, stream, window
        self._folder = folder
        self._events = _Rows(folder / "events.parquet", EVENT_SCHEMA)
        self._rejected: _Rows | None = None

    def add(self, events: pa.RecordBatch) -> None:
        with self._writing():
            self._events.add(events)

    def add_rejected(self, rows: pa.RecordBatch) -> None:
        with self._writing():
            if self._rejected is None:
                self._rejected = _Rows(self._folder / "messages.parquet", QUARANTINE_SCHEMA)
            self._rejected.add(rows)

    def commit(self, summary: WindowSummary) -> Path:
        """Put the window where its state says, in one step, and return where it stands.

        A whole window is not replaced by one that is not: then what was staged is dropped.
        """
        lake = self._data.lake
        whole = lake.events_path(self._stream, self._window)
        incomplete = lake.incomplete_path(self._stream, self._window)
        messages = self._data.quarantine_path(self._stream, self._window)
        if not summary.state.is_whole and whole.exists():
            return whole
        with self._writing():
            self._events.finish({SUMMARY_KEY: summary.model_dump_json().encode()})
            if self._rejected is not None:
                self._rejected.finish()
                _move(self._rejected.path, messages)
            target = whole if summary.state.is_whole else incomplete
            _move(self._events.path, target)
            if summary.state.is_whole:
                _emptied(incomplete, EVENT_SCHEMA, summary)
            if self._rejected is None:
                _emptied(messages, QUARANTINE_SCHEMA, summary)
        return target

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with told(self._folder, "write"):
            try:
                yield
            except pa.ArrowException as error:
                raise StorageError(f"cannot write {self._folder}: {error}") from error


@contextmanager
def staged(data: DataDirectory, stream: str, window: Window) -> Iterator[StagedWindow]:
    """Stage one window; WindowBusy where another process is at it. What a dead run left behind is removed first."""
    folder = data.staging / check_name(stream) / window.key.replace(":", "")
    make_directory(folder.parent)
    busy = WindowBusy(f"another run is replaying {stream} {window}; wait for it to end")
    with locked(folder.with_suffix(".lock"), busy):
        shutil.rmtree(folder, ignore_errors=True)
        make_directory(folder)
        try:
            with told(folder, "write"):
                window_files = StagedWindow(data, stream, window, folder)
            yield window_files
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _emptied(path: Path, schema: pa.Schema, summary: WindowSummary) -> None:
    """Take the rows out of a file that a whole window supersedes. A query that has just listed it still finds it."""
    if path.exists():
        with replacing(path) as temporary:
            metadata = {SUMMARY_KEY: summary.model_dump_json().encode()}
            pq.write_table(schema.with_metadata(metadata).empty_table(), temporary)


def _move(source: Path, target: Path) -> None:
    make_directory(target.parent)
    os.replace(source, target)
    fsync_path(target.parent)
