"""Where two windows meet: each event in one of them, in none of them twice, though hosts' clocks differ.

A window is cut by its host's clock. What another host witnessed on the other side of an edge, up to as much as clocks
may differ, is matched by identity with the window that stands there: whoever comes second leaves out what the first one
holds, and takes over what neither would hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.crossing import crossing
from jetstream_pipeline.events.identity import IDENTITY_COLUMNS, identities
from jetstream_pipeline.replay.edges import Section
from jetstream_pipeline.storage.errors import Damaged
from jetstream_pipeline.storage.event_layout import in_stream_order
from jetstream_pipeline.storage.files import Version, exists, version
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.window import Window

_COLUMNS = ["time_us", *IDENTITY_COLUMNS]
_WELL_BEFORE = 100
"""Events from before a moment that show that the row group before needs no reading."""


@dataclass
class Seams:
    """What the windows beside one hold near it; None where none stands there."""

    window: Window
    fingerprint: str
    skew_us: int
    previous: pa.Array | None = None
    following: pa.Array | None = None
    versions: tuple[Version | None, Version | None] = (None, None)
    left: int = field(default=0, init=False)
    """Events of the window that a neighbour holds."""
    taken: int = field(default=0, init=False)
    """Events of lead and tail that no neighbour holds."""

    @classmethod
    def read(cls, lake: Lake, stream: str, window: Window, fingerprint: str, skew_us: int) -> Seams:
        """The neighbours as they stand now, where they are of the same filter."""
        before, after = neighbours(lake, stream, window)
        versions = version(before), version(after)
        seams = cls(window, fingerprint, skew_us, versions=versions)
        seams.previous = _held(_last_rows, before, window.start_us - 2 * skew_us, fingerprint)
        seams.following = _held(_first_rows, after, window.end_us + 2 * skew_us, fingerprint)
        return seams

    def are_as(self, others: Seams) -> bool:
        """Whether they are those of the same window beside the same files."""
        return all(
            getattr(self, name) == getattr(others, name) for name in ("window", "fingerprint", "skew_us", "versions")
        )

    def settle(self, events: Iterable[tuple[int, pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        """The window's own of the events of what was read, in the order given."""
        self.left = self.taken = 0
        for section, batch in events:
            yield self.settled(section, batch)

    def settled(self, section: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The window's own of some events; `left` and `taken` count on."""
        match section:
            case Section.LEAD:
                kept = _without(batch, self.previous) if self.previous is not None else batch.slice(0, 0)
                self.taken += kept.num_rows
            case Section.TAIL:
                kept = _without(batch, self.following) if self.following is not None else batch.slice(0, 0)
                self.taken += kept.num_rows
            case Section.WINDOW:
                kept = self._own(batch)
                self.left += batch.num_rows - kept.num_rows
            case _:
                kept = batch.slice(0, 0)
        return kept

    def _own(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """All of a window's events are matched: imported times do not say where an event lies."""
        for held in (self.previous, self.following):
            batch = batch if held is None else _without(batch, held)
        return batch


def neighbours(lake: Lake, stream: str, window: Window) -> tuple[AnyPath, AnyPath]:
    """Where the whole windows before and after one lie, whether they are there or not."""
    length = window.end - window.start
    before, after = (Window(window.start + shift, window.end + shift) for shift in (-length, length))
    return lake.events_path(stream, before), lake.events_path(stream, after)


def _held(
    rows: Callable[[AnyPath, int], Sequence[pa.RecordBatch]], path: AnyPath, moment_us: int, fingerprint: str
) -> pa.Array | None:
    """What a neighbour holds near a moment. One of another filter has no say, nor has one that is damaged: it settles
    with this window when it is replayed. One that cannot be read just now is a failure."""
    try:
        if exists(path) and read_summary(path).fingerprint == fingerprint:
            return _identities(rows(path, moment_us))
    except Damaged:
        pass
    return None


def _last_rows(path: AnyPath, since_us: int) -> Sequence[pa.RecordBatch]:
    """The row groups at a window's end that reach back to `since_us`."""
    found: list[pa.RecordBatch] = []
    with reading(path) as file:
        for number in reversed(range(file.num_row_groups)):
            found = [*in_stream_order(file, _COLUMNS, [number]), *found]
            if found and crossing(found[0], since_us, final=True).before >= _WELL_BEFORE:
                break
    return found


def _first_rows(path: AnyPath, until_us: int) -> Sequence[pa.RecordBatch]:
    """The row groups at a window's beginning that reach to `until_us`."""
    found: list[pa.RecordBatch] = []
    with reading(path) as file:
        for number in range(file.num_row_groups):
            found += in_stream_order(file, _COLUMNS, [number])
            if found and crossing(found[-1], until_us).passed:
                break
    return found


def _identities(batches: Sequence[pa.RecordBatch]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *(identities(batch) for batch in batches)])


def _without(batch: pa.RecordBatch, held: pa.Array) -> pa.RecordBatch:
    return batch.filter(pc.invert(pc.is_in(identities(batch), value_set=held)))
