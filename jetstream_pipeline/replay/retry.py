"""The use case: messages in quarantine that this version of the program can read go where they belong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.archive.block import decode_rows
from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.events.decode import CLOCK_SLACK_US, decode
from jetstream_pipeline.events.identity import digest, identities
from jetstream_pipeline.events.record import payloads
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.events.wires import ARCHIVE, Wire
from jetstream_pipeline.replay.amending import amend, rows, standing
from jetstream_pipeline.replay.merging import Insertions
from jetstream_pipeline.replay.replay import HOST_SKEW
from jetstream_pipeline.replay.seams import Seams
from jetstream_pipeline.replay.streams import subscription_of
from jetstream_pipeline.storage import quarantine
from jetstream_pipeline.storage.files import folders, found
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import Counts, WindowSummary, read_summary
from jetstream_pipeline.window import Window, span_us, to_us


class Retried(BaseModel):
    """What came of one quarantine file."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The stream or the queue."""
    window: Window | None
    """None for a queue's messages."""
    messages: int
    understood: int
    """Messages that can be read now; they are in quarantine no more."""
    added: int
    """Events among them that were not there yet, and that the filter lets through."""
    note: str | None = None
    """Why the file was left as it is."""


@dataclass(frozen=True)
class _Kept:
    """A quarantine file's rows, read with this version of the program."""

    understood: pa.Table
    """Those that can be read now."""
    events: pa.Table
    """What each of them is."""
    left: pa.Table
    """The others."""

    @classmethod
    def read(cls, path: AnyPath) -> _Kept:
        rows = quarantine.read(path)
        latest_us = to_us(datetime.now(UTC)) + CLOCK_SLACK_US
        understood, events = [], []
        for message, host, wire in zip(*(rows[name].to_pylist() for name in ("message", "host", "wire")), strict=True):
            # What we wrote ourselves came from no wire.
            found = _events(message, host, wire, latest_us) if wire else None
            understood.append(found is not None and found.num_rows == 1)
            if found is not None and found.num_rows == 1:
                events.append(found)
        mask = pa.array(understood, pa.bool_())
        return cls(rows.filter(mask), pa.Table.from_batches(events, EVENT_SCHEMA), rows.filter(pc.invert(mask)))

    @property
    def messages(self) -> int:
        return self.understood.num_rows + self.left.num_rows


def _events(message: bytes, host: str, wire: str, latest_us: int) -> pa.RecordBatch:
    if wire == ARCHIVE:
        return decode_rows(message, host, "quarantine", latest_us=latest_us).events
    return decode([message], host, latest_us, Wire(wire)).events


def retry(data: DataDirectory, name: str, *, skew: timedelta = HOST_SKEW) -> Iterator[Retried]:
    """Read again what lies in the quarantine of a stream or a queue, file by file.

    Events go into their window or into the queue, each once, however often this is done. `skew`: how far the hosts'
    clocks may differ. InvalidInput where there is nothing of that name.
    """
    folder = data.quarantine_folder(name)
    if folder not in folders(data.quarantine):
        raise InvalidInput(f"there is no quarantine of {name} in {data.shown}")
    for path in [file.path for file in found(folder, quarantine.FILES)]:
        window = quarantine.window_of(path)
        messages = 0
        try:
            messages = quarantine.count(path)
            if not messages:
                continue
            if window is None:
                retried = _retry_queue(data, name, path)
            else:
                retried = _retry_window(data, name, window, span_us(skew))
        except PipelineError as error:
            retried = Retried(name=name, window=window, messages=messages, understood=0, added=0, note=str(error))
        yield retried


def _retry_queue(data: DataDirectory, name: str, path: AnyPath) -> Retried:
    kept = _Kept.read(path)
    added = 0
    if kept.events.num_rows:
        added = _into_queue(data, name, kept)
        quarantine.rewrite(path, kept.left)
    return Retried(name=name, window=None, messages=kept.messages, understood=kept.events.num_rows, added=added)


def _retry_window(data: DataDirectory, stream: str, window: Window, skew_us: int) -> Retried:
    """WindowBusy where another run is at the window: it may bring other messages."""
    path = data.quarantine_path(stream, window)
    with staged(data, stream, window, "retrying") as files:
        kept = _Kept.read(path)
        understood, added, note = kept.events.num_rows, 0, None
        if understood and not data.lake.has(stream, window):
            understood, note = 0, f"{stream} {window} is not whole; replay it, which reads its messages again"
        elif understood:
            added = _into_window(data, stream, window, kept, skew_us, files.folder)
            quarantine.rewrite(path, kept.left)
        files.discard()
    return Retried(name=stream, window=window, messages=kept.messages, understood=understood, added=added, note=note)


def _into_queue(data: DataDirectory, name: str, kept: _Kept) -> int:
    texts = [text for batch in kept.events.to_batches() for text in payloads(batch)]
    keys = [f"retried:{digest(message).hex()}" for message in kept.understood["message"].to_pylist()]
    return Queue(name, data_dir=data.root).batch_add_items_to_queue(texts, keys=keys)


def _into_window(data: DataDirectory, stream: str, window: Window, kept: _Kept, skew_us: int, folder: Path) -> int:
    """Put events after those that came before them in the stream; how many neither the window nor those beside it had
    yet."""
    path = data.lake.events_path(stream, window)
    (batch,) = kept.events.combine_chunks().to_batches()
    found = standing(data, stream, window)
    before = read_summary(path)
    seams = Seams.read(data.lake, stream, window, before.fingerprint, skew_us)
    beside = [held for held in (seams.previous, seams.following) if held is not None]
    known = pa.concat_arrays([pa.array([], pa.string()), *map(identities, rows(path)), *beside])
    wanted = pc.and_(subscription_of(data, stream).mask(batch), _unseen(identities(batch), known))
    new = pa.Table.from_batches([batch.filter(wanted)])
    positions = kept.understood["position_us"].filter(wanted).to_pylist()
    inserted = Insertions(new, _places(rows(path), positions))

    def describe(counts: Counts) -> WindowSummary:
        return before.model_copy(
            update={
                **counts.model_dump(),
                "repaired": before.repaired + new.num_rows,
                "quarantined": kept.left.num_rows,
            }
        )

    amend(data, stream, window, found, inserted, describe, folder)
    return new.num_rows


def _unseen(ids: pa.Array, known: pa.Array) -> pa.Array:
    """Which are neither known nor stand among the ones before them."""
    first = [ids.index(one).as_py() == number for number, one in enumerate(ids)]
    return pc.and_(pa.array(first, pa.bool_()), pc.invert(pc.is_in(ids, value_set=known)))


def _places(batches: Iterable[pa.RecordBatch], positions: Sequence[int]) -> list[int]:
    """Before which row each goes: the one after the event that it followed, by that event's time, which may be an
    imported one. Where that event was not kept, the first one that is later."""
    asked = pa.array(set(positions), pa.int64())
    after: dict[int, int] = {}
    later: dict[int, int] = {}
    start = 0
    for batch in batches:
        times = batch["time_us"]
        same = pc.indices_nonzero(pc.is_in(times, value_set=asked))
        after.update(zip(times.take(same).to_pylist(), (start + row + 1 for row in same.to_pylist()), strict=True))
        for position in set(positions) - later.keys():
            row = pc.index(pc.greater(times, position), True).as_py()
            if row >= 0:
                later[position] = start + row
        start += batch.num_rows
    return [after.get(position, later.get(position, start)) for position in positions]
