"""Two hosts' views of the same window, held against each other by the events' identities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.events.identity import identities
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.replay.edges import Section
from jetstream_pipeline.replay.merging import Insertions, places
from jetstream_pipeline.replay.seams import Seams

_NAMED = 20
"""Of the collections and repositories that are lacking most."""
_BLIND_SHARE = 0.001
_BLIND_EVENTS = 10
_NAMES = ("did", "kind", "collection")
_DIGEST = pa.binary(16)
_ROWS_AT_ONCE = 262_144


class Lack(BaseModel):
    """Events that one host has and the other one lacks."""

    model_config = ConfigDict(frozen=True)

    events: int
    of: int
    """Events that were looked for."""
    repositories: int
    """Repositories that they belong to."""
    by_collection: dict[str, int]
    """The twenty with most; identity and account events under their kind."""
    by_repository: dict[str, int]
    """The twenty with most."""

    @property
    def is_blindness(self) -> bool:
        """Whether that is more than a few: the host does not see everything."""
        return self.events >= _BLIND_EVENTS and self.events > _BLIND_SHARE * self.of


@dataclass
class _Lacking:
    of: int = 0
    events: int = 0
    collections: Counter[str] = field(default_factory=Counter)
    repositories: Counter[str] = field(default_factory=Counter)

    def add(self, batch: pa.RecordBatch) -> None:
        self.events += batch.num_rows
        self.collections.update(pc.coalesce(batch["collection"], batch["kind"]).to_pylist())
        self.repositories.update(batch["did"].to_pylist())

    def told(self) -> Lack:
        return Lack(
            events=self.events,
            of=self.of,
            repositories=len(self.repositories),
            by_collection=dict(self.collections.most_common(_NAMED)),
            by_repository=dict(self.repositories.most_common(_NAMED)),
        )


@dataclass(frozen=True)
class Comparison:
    """What the window's file lacks, with where it goes, and what the second host lacks."""

    lacking_here: Lack
    lacking_there: Lack
    insertions: Insertions


def compare(
    here: Iterable[pa.RecordBatch],
    there: Callable[[], Iterable[tuple[int, pa.RecordBatch]]],
    seams: Seams,
) -> Comparison:
    """Hold the rows of a window's file against what a second host sent of the window and around it.

    What either host's clock may have moved over an edge is left out of account where nobody can tell on which side it
    belongs. Of each event little is kept in memory, all of it only of those that the window lacks.
    """
    there_ids, sure = _second_hosts(there(), seams)
    here_ids, lacking_there = _held_against(here, there_ids, seams)
    rows = pc.index_in(there_ids, value_set=here_ids)
    wanted = pc.and_(sure, pc.is_null(rows))
    lacking_here = _Lacking(of=pc.sum(sure).as_py() or 0)
    missing, goes = [], []
    if pc.any(wanted).as_py():
        missing = list(_filtered((batch for _, batch in there()), wanted))
        goes = _places((batch for _, batch in there()), missing, rows, wanted)
    for batch in missing:
        lacking_here.add(batch)
    inserted = Insertions(pa.Table.from_batches(missing, EVENT_SCHEMA), goes)
    return Comparison(lacking_here.told(), lacking_there.told(), inserted)


def _second_hosts(batches: Iterable[tuple[int, pa.RecordBatch]], seams: Seams) -> tuple[pa.Array, pa.Array]:
    """A second host's events, and which of them belong to the window, whatever the hosts' clocks say."""
    kept, within = [], []
    for section, batch in batches:
        kept.append(_digests(identities(batch)))
        within.append(_clear_of_edges(section, batch, seams))
    ids, sure = _concatenated(_DIGEST, kept), _concatenated(pa.bool_(), within)
    for neighbour in (seams.previous, seams.following):
        if neighbour is not None:
            sure = pc.and_(sure, pc.invert(pc.is_in(ids, value_set=_digests(neighbour))))
    return ids, sure


def _held_against(here: Iterable[pa.RecordBatch], there: pa.Array, seams: Seams) -> tuple[pa.Array, _Lacking]:
    """The window's own events, and what of them is not `there`."""
    kept, lacking = [], _Lacking()
    for table in _gathered(_described(batch, seams) for batch in here):
        kept += table["id"].chunks
        lacking.of += pc.sum(table["sure"]).as_py() or 0
        lacks = pc.and_(table["sure"], pc.invert(pc.is_in(table["id"], value_set=there)))
        for batch in table.filter(lacks).to_batches():
            lacking.add(batch)
    return _concatenated(_DIGEST, kept), lacking


def _described(batch: pa.RecordBatch, seams: Seams) -> pa.RecordBatch:
    """What is asked of an event of the window, without what it says."""
    columns = {name: batch[name] for name in _NAMES}
    columns |= {"id": _digests(identities(batch)), "sure": pc.invert(_taken_over(batch, seams))}
    return pa.RecordBatch.from_pydict(columns)


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Many rows at once: to look rows up costs as much as to learn where they are looked up."""
    waiting, rows = [], 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _places(
    there: Iterable[pa.RecordBatch], missing: Sequence[pa.RecordBatch], rows: pa.Array, wanted: pa.Array
) -> list[int]:
    """Where what is `missing` goes. `rows`: where each of the second host's events stands; `wanted`: which do not."""
    lacking = pc.unique(pa.chunked_array([batch["did"] for batch in missing]))
    numbers = _concatenated(pa.int32(), [pc.index_in(batch["did"], value_set=lacking) for batch in there])
    follows = pc.fill_null(pc.add(pc.fill_null_forward(rows), 1), 0)
    of_lacking = pc.is_valid(numbers)
    columns = (pc.filter(column, of_lacking).to_pylist() for column in (numbers, rows, follows, wanted))
    return places(*columns)


def _digests(ids: pa.Array) -> pa.Array:
    """Identities in little room. Strangers choose what an event says: no two must be made to look the same."""
    texts = ids.cast(pa.large_binary()).to_pylist()
    content = b"".join([blake2b(text, digest_size=_DIGEST.byte_width).digest() for text in texts])
    return pa.Array.from_buffers(_DIGEST, len(texts), [None, pa.py_buffer(content)])


def _concatenated(kind: pa.DataType, arrays: Sequence[pa.Array]) -> pa.Array:
    return pa.concat_arrays([pa.array([], kind), *arrays])


def _filtered(batches: Iterable[pa.RecordBatch], wanted: pa.Array) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        yield batch.filter(wanted.slice(start, batch.num_rows))
        start += batch.num_rows


def _clear_of_edges(section: int, batch: pa.RecordBatch, seams: Seams) -> pa.Array:
    """Which events lie within the window, and not near an edge where there is no neighbour that says whose they are."""
    if section != Section.WINDOW:
        return pa.repeat(pa.scalar(False), batch.num_rows)
    clear = pa.repeat(pa.scalar(True), batch.num_rows)
    for neighbour, edge in ((seams.previous, seams.window.start_us), (seams.following, seams.window.end_us)):
        if neighbour is None:
            clear = pc.and_(clear, pc.invert(_between(batch, edge - seams.skew_us, edge + seams.skew_us)))
    return clear


def _taken_over(batch: pa.RecordBatch, seams: Seams) -> pa.Array:
    """Events that the window took over from beyond its edges: on another host they may lie further out still."""
    start, end = seams.window.start_us, seams.window.end_us
    return pc.or_(_between(batch, start - seams.skew_us, start), _between(batch, end, end + seams.skew_us))


def _between(batch: pa.RecordBatch, start_us: int, end_us: int) -> pa.Array:
    times = batch["time_us"]
    return pc.and_(pc.greater_equal(times, start_us), pc.less(times, end_us))
