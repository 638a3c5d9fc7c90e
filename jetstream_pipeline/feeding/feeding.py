"""A window's chosen events enter a queue, each exactly once, whatever crashes and however often the window is replaced.

First what is to be added is planned and the plan made durable (`fed_list`), then it is added batch by batch, each in
one transaction with the mark of how much of the plan is in. Which events are chosen is `feed`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.identity import IDENTITY_COLUMNS
from jetstream_pipeline.events.record import payloads
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.feeding.errors import FeedBusy
from jetstream_pipeline.feeding.fed_list import DIGEST, FedList, Mark, Marker, Note, digests
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.storage.days import held, summary_of
from jetstream_pipeline.storage.event_layout import in_stream_order
from jetstream_pipeline.storage.files import version
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.queue.queue import BookmarkMoved, Queue
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.window import Window

_BATCH_ITEMS = 10_000
_BATCH_BYTES = 8 * 1024 * 1024
_ROWS_AT_ONCE = 1_000
"""Made Python objects together."""
_KNOWN_AT_ONCE = 1_000_000
"""Digests whose look-up table is in memory together: some 100 MB."""


@dataclass(frozen=True)
class Progress:
    """How far a feeding has come: events added of those that were to be, seconds since it began."""

    added: int
    planned: int
    seconds: float


@dataclass(frozen=True)
class Fed:
    """What a feeding did: `chosen` events of the window were for the queue, of which `known` were in before."""

    added: int
    known: int
    chosen: int
    seconds: float


def feed_window(
    stream: str,
    window: Window,
    feed: Feed,
    data: DataDirectory,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Fed:
    """Add a window's chosen events to the feed's queue, in stream order, without those that were added before.

    An event is added once in the queue's life, be it acknowledged or not: by its identity within the stream's window,
    whatever that was replaced by since. A run that died is gone on with. The queue is made where it is missing; one
    whose file was deleted is a new one, and gets everything. Where the feed's filter is another one than before, events
    that it lets through now are added, and those it no longer does stay; windows not fed again are as they were.

    Items are `JetstreamRecord` JSON; their metadata names `stream` and `window` (its key). Others may use the queue
    meanwhile. `on_progress` is called after each batch.

    InvalidInput where the lake has no whole window; FeedBusy (passing) where another run feeds the same one, QueueBusy
    (passing) where others hold the queue for too long; ListLost, or Damaged, where nobody can tell what was added:
    nothing is added then, rather than twice. StorageError where a file cannot be used. What was added until then stays,
    and is known next time.
    """
    began = time.monotonic()
    events = data.lake.events_path(stream, window)
    if not data.lake.has(stream, window):
        raise InvalidInput(f"the lake holds no whole window {stream} {window}; replay it first")
    queue = Queue(feed.queue, create_new_queue=True, data_dir=data.root)
    fed_list = FedList(queue, stream, window)
    busy = FeedBusy(f"another run feeds {stream} {window} into the queue {queue.name}; wait for it to end")
    with fed_list.alone(busy), held(data, stream, [window]):
        feeding = _Feeding(events, feed, queue, fed_list, {"stream": stream, "window": window.key})
        with closing(feeding.run()) as totals:
            for added in totals:
                if on_progress:
                    on_progress(Progress(added, feeding.planned, time.monotonic() - began))
    return Fed(feeding.planned, feeding.chosen - feeding.planned, feeding.chosen, time.monotonic() - began)


def is_fed(stream: str, window: Window, feed: Feed, data: DataDirectory) -> bool:
    """Whether all of a whole window that this feed chooses has entered its queue, as the window stands now."""
    try:
        queue = Queue(feed.queue, data_dir=data.root)
    except InvalidInput:
        return False
    fed_list = FedList(queue, stream, window)
    note, content = fed_list.note(), summary_of(data.lake, stream, window).content
    known = (content, feed.fingerprint, fed_list.mark())
    return note is not None and content != "" and (note.content, note.feed, note.end) == known


class _Feeding:
    """One feeding of one window, by the holder of its lock."""

    def __init__(self, events: AnyPath, feed: Feed, queue: Queue, fed_list: FedList, metadata: dict[str, str]) -> None:
        self._events = events
        self._feed = feed
        self._queue = queue
        self._list = fed_list
        self._metadata = metadata
        self.chosen = self.planned = 0
        """Events of the window that are for the queue; those of them that are not in it yet."""

    def run(self) -> Generator[int]:
        """Yields after each batch how many events were added so far."""
        mark, found = self._list.mark(), version(self._events)
        content = read_summary(self._events).content
        if self._is_known(content, mark):
            return
        # An open file stays what it is while the window is replaced: what is planned is what is added.
        with reading(self._events) as file:
            known = self._list.known(mark)
            new, entries = self._plan(file, known)
            seen = content if version(self._events) == found else ""
            end = Marker(entries).mark
            self._list.write(entries, Note(content=seen, feed=self._feed.fingerprint, chosen=self.chosen, end=end))
            marker = Marker(known)
            for items in _batches(_new(file, self._feed, new)):
                before = marker.mark
                marker.add(entries.slice(before.fed, len(items)))
                self._add(items, before, marker.mark)
                yield marker.mark.fed - mark.fed

    def _is_known(self, content: str, mark: Mark) -> bool:
        """Whether all of the window is in already, as far as its summary and the list's note say."""
        note = self._list.note()
        if not content or not note or (note.content, note.feed, note.end) != (content, self._feed.fingerprint, mark):
            return False
        self.chosen = note.chosen
        return True

    def _plan(self, file: pq.ParquetFile, known: pa.ChunkedArray) -> tuple[pa.BooleanArray, pa.ChunkedArray]:
        """Which of the chosen events are new, and the list with them."""
        parts = [digests(events) for events in _chosen(file, self._feed, IDENTITY_COLUMNS)]
        chosen = pa.chunked_array(parts, DIGEST)
        new = pa.repeat(pa.scalar(True), len(chosen))
        for begin in range(0, len(known), _KNOWN_AT_ONCE):
            some = known.slice(begin, _KNOWN_AT_ONCE)
            new = pc.and_not(new, pc.is_in(chosen, value_set=some).combine_chunks())
        planned = chosen.filter(new)
        self.chosen, self.planned = len(chosen), len(planned)
        return new, pa.chunked_array([*known.chunks, *planned.chunks], DIGEST)

    def _add(self, items: Sequence[str], before: Mark, after: Mark) -> None:
        name, queue = self._list.mark_name, self._queue.name
        standing = None if before == Marker().mark else before.model_dump_json()
        try:
            self._queue.batch_add_items_to_queue(
                items, self._metadata, bookmark=(name, after.model_dump_json()), if_bookmark=(name, standing)
            )
        except BookmarkMoved as moved:
            text = f"the queue {queue} was replaced while {self._events} was fed; try again"
            raise FeedBusy(text) from moved


def _chosen(file: pq.ParquetFile, feed: Feed, columns: Sequence[str] = EVENT_SCHEMA.names) -> Iterator[pa.RecordBatch]:
    """The events that are for the queue, in stream order."""
    for events in in_stream_order(file, columns):
        yield events.filter(feed.mask(events))


def _new(file: pq.ParquetFile, feed: Feed, new: pa.BooleanArray) -> Iterator[pa.RecordBatch]:
    """Those of the chosen events that are `new`, some rows at a time."""
    place = 0
    for events in _chosen(file, feed):
        added = events.filter(new.slice(place, events.num_rows))
        place += events.num_rows
        for begin in range(0, added.num_rows, _ROWS_AT_ONCE):
            yield added.slice(begin, _ROWS_AT_ONCE)


def _batches(events: Iterator[pa.RecordBatch]) -> Iterator[list[str]]:
    """The events' payloads, bounded in number, and in bytes until the last one of a batch."""
    items: list[str] = []
    size = 0
    for some in events:
        for payload in payloads(some):
            items.append(payload)
            size += len(payload.encode())
            if len(items) >= _BATCH_ITEMS or size >= _BATCH_BYTES:
                yield items
                items, size = [], 0
    if items:
        yield items
