"""Two hosts' views of the same window, held against each other by the events' identities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

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
    belongs.
    """
    seen = [(identities(batch), batch["did"], _sure(section, batch, seams)) for section, batch in there()]
    there_ids = _concatenated(pa.string(), [ids for ids, _, _ in seen])
    lacking_there, here_ids = _Lacking(), []
    for batch in here:
        ids = identities(batch)
        here_ids.append(ids)
        sure = pc.invert(_taken_over(batch, seams))
        lacking_there.of += pc.sum(sure).as_py() or 0
        lacking_there.add(batch.filter(pc.and_(sure, pc.invert(pc.is_in(ids, value_set=there_ids)))))
    rows = pc.index_in(there_ids, value_set=_concatenated(pa.string(), here_ids))
    sure = _concatenated(pa.bool_(), [sure for _, _, sure in seen])
    wanted = pc.and_(sure, pc.is_null(rows))
    missing = pa.Table.from_batches(_filtered((batch for _, batch in there()), wanted), EVENT_SCHEMA)
    lacking_here = _Lacking(of=pc.sum(sure).as_py() or 0)
    for batch in missing.to_batches():
        lacking_here.add(batch)
    dids = _concatenated(pa.string(), [dids for _, dids, _ in seen])
    inserted = Insertions(missing, places(dids.to_pylist(), rows.to_pylist(), wanted.to_pylist()))
    return Comparison(lacking_here.told(), lacking_there.told(), inserted)


def _concatenated(kind: pa.DataType, arrays: Sequence[pa.Array]) -> pa.Array:
    return pa.concat_arrays([pa.array([], kind), *arrays])


def _filtered(batches: Iterable[pa.RecordBatch], wanted: pa.Array) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        yield batch.filter(wanted.slice(start, batch.num_rows))
        start += batch.num_rows


def _sure(section: int, batch: pa.RecordBatch, seams: Seams) -> pa.Array:
    """Which events of the second host belong to the window, whatever the hosts' clocks say."""
    if section != Section.WINDOW:
        return pa.repeat(pa.scalar(False), batch.num_rows)
    sure = pa.repeat(pa.scalar(True), batch.num_rows)
    ids = identities(batch)
    for neighbour, edge in ((seams.previous, seams.window.start_us), (seams.following, seams.window.end_us)):
        if neighbour is None:
            near = _between(batch, edge - seams.skew_us, edge + seams.skew_us)
        else:
            near = pc.is_in(ids, value_set=neighbour)
        sure = pc.and_(sure, pc.invert(near))
    return sure


def _taken_over(batch: pa.RecordBatch, seams: Seams) -> pa.Array:
    """Events that the window took over from beyond its edges: on another host they may lie further out still."""
    start, end = seams.window.start_us, seams.window.end_us
    return pc.or_(_between(batch, start - seams.skew_us, start), _between(batch, end, end + seams.skew_us))


def _between(batch: pa.RecordBatch, start_us: int, end_us: int) -> pa.Array:
    times = batch["time_us"]
    return pc.and_(pc.greater_equal(times, start_us), pc.less(times, end_us))
