"""The use case: messages in quarantine that this version of the program can read go where they belong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.events.decode import CLOCK_SLACK_US, Decoded, decode
from jetstream_pipeline.events.identity import digest, identities
from jetstream_pipeline.events.record import payloads
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.replay.amending import amend, rows, standing
from jetstream_pipeline.replay.merging import Insertions
from jetstream_pipeline.replay.streams import subscription_of
from jetstream_pipeline.storage import quarantine
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import Counts, WindowSummary, read_summary
from jetstream_pipeline.window import Window, to_us


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


def retry(data: DataDirectory, name: str) -> Iterator[Retried]:
    """Read again what lies in the quarantine of a stream or a queue, file by file.

    Events go into their window or into the queue, each once, however often this is done. InvalidInput where there is
    nothing of that name.
    """
    folder = data.quarantine_folder(name)
    if not folder.is_dir():
        raise InvalidInput(f"there is no quarantine of {name} in {data.root}")
    for path in sorted(folder.glob("date=*/hour=*/messages*.parquet")):
        kept = quarantine.read(path)
        if not kept.num_rows:
            continue
        window = _window(path) if path.stem == "messages" else None
        understood, decoded = _decoded(kept)
        try:
            added = 0
            if any(understood):
                events = pa.Table.from_batches((one.events for one in decoded), EVENT_SCHEMA)
                positions = pc.filter(kept["position_us"], pa.array(understood)).to_pylist()
                added = _into_queue(data, name, kept, understood, events) if window is None else (
                    _into_window(data, name, window, events, positions)
                )  # fmt: skip
                quarantine.rewrite(path, kept.filter(pc.invert(pa.array(understood))))
            yield Retried(name=name, window=window, messages=len(understood), understood=sum(understood), added=added)
        except PipelineError as error:
            yield Retried(name=name, window=window, messages=len(understood), understood=0, added=0, note=str(error))


def _window(path: Path) -> Window:
    date, hour = path.parent.parent.name.removeprefix("date="), path.parent.name.removeprefix("hour=")
    return Window.from_key(f"{date}-{hour}:00")


def _decoded(kept: pa.Table) -> tuple[list[bool], list[Decoded]]:
    """Which messages can be read now, and those that can. What we wrote ourselves came from no wire."""
    understood, found = [], []
    latest_us = to_us(datetime.now(UTC)) + CLOCK_SLACK_US
    for message, host, wire in zip(*(kept[name].to_pylist() for name in ("message", "host", "wire")), strict=True):
        decoded = decode([message], host, latest_us, Wire(wire)) if wire else None
        understood.append(decoded is not None and decoded.events.num_rows == 1)
        if decoded is not None and decoded.events.num_rows == 1:
            found.append(decoded)
    return understood, found


def _into_queue(data: DataDirectory, name: str, kept: pa.Table, understood: Sequence[bool], events: pa.Table) -> int:
    messages = [message for message, ok in zip(kept["message"].to_pylist(), understood, strict=True) if ok]
    texts = [text for batch in events.to_batches() for text in payloads(batch)]
    queue = Queue(name, data_dir=data.root)
    return queue.batch_add_items_to_queue(texts, keys=[f"retried:{digest(message).hex()}" for message in messages])


def _into_window(data: DataDirectory, stream: str, window: Window, events: pa.Table, positions: Sequence[int]) -> int:
    """Put events after those that came before them in the stream; how many were not there yet."""
    path = data.lake.events_path(stream, window)
    if not path.exists():
        raise InvalidInput(f"{stream} {window} is not whole; replay it, which reads its messages again")
    (batch,) = events.combine_chunks().to_batches()
    with staged(data, stream, window, "retrying") as files:
        found = standing(data, stream, window)
        before = read_summary(path)
        unseen = _unseen(identities(batch), _all(rows(path)))
        wanted = pc.and_(subscription_of(data, stream).mask(batch), unseen)
        new = pa.Table.from_batches([batch.filter(wanted)])
        inserted = Insertions(new, _places(rows(path), pc.filter(pa.array(positions), wanted).to_pylist()))

        def describe(counts: Counts) -> WindowSummary:
            return before.model_copy(
                update={
                    **counts.model_dump(),
                    "repaired": before.repaired + new.num_rows,
                    "quarantined": before.quarantined - batch.num_rows,
                }
            )

        amend(data, stream, window, found, inserted, describe, files.folder)
        files.discard()
    return new.num_rows


def _unseen(ids: pa.Array, known: pa.Array) -> pa.Array:
    """Which are neither known nor stand among the ones before them."""
    first = [ids.index(one).as_py() == number for number, one in enumerate(ids)]
    return pc.and_(pa.array(first, pa.bool_()), pc.invert(pc.is_in(ids, value_set=known)))


def _all(batches: Iterable[pa.RecordBatch]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *(identities(batch) for batch in batches)])


def _places(batches: Iterable[pa.RecordBatch], positions: Sequence[int]) -> list[int]:
    """Before which row each goes: the first one that is later than the event that it followed."""
    places: list[int | None] = [None] * len(positions)
    start = 0
    for batch in batches:
        for number, position in enumerate(positions):
            if places[number] is None:
                later = pc.index(pc.greater(batch["time_us"], position), True).as_py()
                places[number] = start + later if later >= 0 else None
        start += batch.num_rows
    return [start if place is None else place for place in places]
