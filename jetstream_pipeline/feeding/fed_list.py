"""Which of a window's events are in a queue: their digests in the order of feeding, in a small file beside the queue.

fed/<queue>/<stream>/date=YYYY-MM-DD/hour=HH/fed.parquet, in the folder of queues or in the queues' database

How many of the file's entries are in, from the first one on, is said by a mark in the queue itself, stored in the
transaction that added them. What lies beyond was planned and never added. So entries up to the mark never change; a
mark with another checksum belongs to another file.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.events.identity import identities
from jetstream_pipeline.feeding.errors import ListLost
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.hive import hour_folder
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.window import Window

_DIGEST_BYTES = 16
DIGEST = pa.binary(_DIGEST_BYTES)
_COLUMN = "identity"
_NOTE_KEY = b"jetstream_feed"
_NONE = pa.chunked_array([], DIGEST)


def digests(events: pa.RecordBatch) -> pa.Array:
    """What each event (`IDENTITY_COLUMNS`) is recognised by."""
    texts = identities(events).cast(pa.binary()).to_pylist()
    return pa.array([hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest() for text in texts], DIGEST)


class Mark(BaseModel):
    """How many entries of a list are in the queue, and their checksum."""

    model_config = ConfigDict(frozen=True)

    fed: int = Field(ge=0)
    checksum: str


class Marker:
    """Makes the mark of a list that grows."""

    def __init__(self, entries: pa.ChunkedArray = _NONE) -> None:
        self._fed = 0
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self.add(entries)

    def add(self, entries: pa.ChunkedArray) -> None:
        for chunk in entries.chunks:
            begin = chunk.offset * _DIGEST_BYTES
            self._hash.update(memoryview(chunk.buffers()[1])[begin : begin + len(chunk) * _DIGEST_BYTES])
        self._fed += len(entries)

    @property
    def mark(self) -> Mark:
        return Mark(fed=self._fed, checksum=self._hash.hexdigest())


class Note(BaseModel):
    """What a list was made for: the rows of the window (`Counts.content`), the feed, how many events it chose, and the
    mark with which all of the list is in."""

    model_config = ConfigDict(frozen=True)

    content: str
    feed: str
    chosen: int
    end: Mark


class FedList:
    """One window's list for one queue. Whoever uses it is `alone`."""

    def __init__(self, queue: Queue, stream: str, window: Window) -> None:
        folder = Path("fed", queue.name, check_name(stream)) / hour_folder(window.start)
        self.mark_name = f"feed:{stream}:{window.key}"
        self._queue = queue
        self._file = queue.companion(f"{folder}/fed.parquet")

    def alone(self, busy: PipelineError) -> AbstractContextManager[None]:
        """Raises `busy` where another one is."""
        return self._file.alone(busy)

    def mark(self) -> Mark:
        """What the queue says; one that says nothing has none of the window. ListLost where it is no mark."""
        text = self._queue.bookmark(self.mark_name)
        if text is None:
            return Marker().mark
        try:
            return Mark.model_validate_json(text)
        except ValidationError:
            raise ListLost(
                f"the queue {self._queue.name} does not say how much of {self.mark_name} it has; feed another queue"
            ) from None

    def note(self) -> Note | None:
        """None where there is no list, or none that can be read."""
        try:
            with self._file.fetched() as path:
                if path is None:
                    return None
                with reading(path) as file:
                    return Note.model_validate_json((file.metadata.metadata or {})[_NOTE_KEY])
        except (StorageError, KeyError, ValidationError):
            return None

    def known(self, mark: Mark) -> pa.ChunkedArray:
        """The digests of what is in the queue, in order.

        ListLost where the file is gone or is not the one that the mark belongs to, Damaged where it is damaged.
        """
        if mark == Marker().mark:
            return _NONE
        remedy = f"put it back from a copy, or feed another queue: without it {self._queue.name} would get events twice"
        with self._file.fetched() as path:
            if path is None:
                raise ListLost(f"{self._file}, which says what is in the queue, is gone; {remedy}")
            with reading(path, remedy) as file:
                columns = file.read()
        if columns.column_names == [_COLUMN] and columns.schema.types == [DIGEST]:
            entries = columns[_COLUMN].slice(0, mark.fed)
            if Marker(entries).mark == mark:
                return entries
        raise ListLost(f"{self._file} is not the one that the queue was fed by; {remedy}")

    def write(self, entries: pa.ChunkedArray, note: Note) -> None:
        """Replace the list, durably."""
        schema = pa.schema([pa.field(_COLUMN, DIGEST, nullable=False)], {_NOTE_KEY: note.model_dump_json().encode()})
        with self._file.replaced() as path:
            pq.write_table(
                pa.table([entries], schema=schema),
                path,
                compression="none",
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
            )
