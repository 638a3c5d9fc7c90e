"""Events that come late into the file of a window: where they go, so that stream order and each repository's own order
hold."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa

from jetstream_pipeline.storage.window_file import row_sizes

_INSERTED_BYTES = 32 * 1024 * 1024
"""At once: what is put together stays far below what one array of texts can hold, however long the texts are."""


@dataclass(frozen=True)
class Insertions:
    """Events to be put among those of a file: each before the row of the number beside it, 0 being the first."""

    events: pa.Table
    rows: Sequence[int]

    def merged(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A file's events with these among them."""
        waiting = _Waiting(self.events, self.rows)
        row = 0
        for batch in batches:
            yield from waiting.put_into(batch, row, row + batch.num_rows)
            row += batch.num_rows
        if waiting.before(None):
            yield from waiting.put_into(pa.RecordBatch.from_pylist([], self.events.schema), row, None)


class _Waiting:
    """What is still to be inserted, by where it goes."""

    def __init__(self, events: pa.Table, rows: Sequence[int]) -> None:
        self._batches = [batch for batch in events.to_batches() if batch.num_rows]
        self._starts = list(accumulate((batch.num_rows for batch in self._batches), initial=0))
        self._sizes = array("q")
        for batch in self._batches:
            self._sizes.extend(row_sizes(batch).to_pylist())
        self._rows = rows
        self._order = sorted(range(len(rows)), key=rows.__getitem__)
        self._done = 0

    def before(self, row: int | None) -> bool:
        """Whether something goes before this row of the file; None is its end."""
        return self._done < len(self._order) and (row is None or self._rows[self._order[self._done]] < row)

    def put_into(self, batch: pa.RecordBatch, start: int, end: int | None) -> Iterator[pa.RecordBatch]:
        """The file's rows from `start` to `end`, which are `batch`, with what goes among them."""
        while self.before(end):
            numbers = self._next(end)
            cut = min(self._rows[self._order[self._done]] - start, batch.num_rows) if self.before(end) else None
            own = batch.slice(0, cut)
            yield _merged(own, [min(self._rows[number] - start, len(own)) for number in numbers], *self._taken(numbers))
            batch, start = batch.slice(own.num_rows), start + own.num_rows
        if batch.num_rows:
            yield batch

    def _next(self, end: int | None) -> list[int]:
        """The numbers of the events that go in next, in order; at least one."""
        first, size = self._done, 0
        while self.before(end) and (self._done == first or size < _INSERTED_BYTES):
            size += self._sizes[self._order[self._done]]
            self._done += 1
        return self._order[first : self._done]

    def _taken(self, numbers: Sequence[int]) -> tuple[list[pa.RecordBatch], list[int]]:
        """Events by their numbers: the batches that they are in then, and where in these each of them is."""
        wanted: dict[int, list[int]] = defaultdict(list)
        for place, number in enumerate(numbers):
            wanted[bisect_right(self._starts, number) - 1].append(place)
        taken, found, count = [], [0] * len(numbers), 0
        for source, places_ in wanted.items():
            start = self._starts[source]
            taken.append(self._batches[source].take(pa.array([numbers[place] - start for place in places_])))
            for place in places_:
                found[place] = count
                count += 1
        return taken, found


def _merged(
    own: pa.RecordBatch, before: Sequence[int], others: Sequence[pa.RecordBatch], found: Sequence[int]
) -> pa.RecordBatch:
    """Rows of a file with others among them, each before the row of `own` beside it; `found` says where it is."""
    rows, given = array("q"), 0
    for row, other in zip(before, found, strict=True):
        rows.extend(range(given, row))
        rows.append(own.num_rows + other)
        given = row
    rows.extend(range(given, own.num_rows))
    return pa.concat_batches([own, *others]).take(pa.array(rows, pa.int64()))


def places(
    repositories: Sequence[Hashable], found: Sequence[int | None], follows: Sequence[int], wanted: Sequence[bool]
) -> list[int]:
    """Where those events of another host's stream that are `wanted` go, in that stream's order.

    Of that stream, only the events of repositories that have wanted ones matter. `repositories`: the one of each of
    them; `found`: the row of the file in which each stands, None where it is not there; `follows`: the row after the
    one of the event that came last before it there, of any repository, and is found. A wanted event goes there, within
    its repository's own order.
    """
    later: dict[Hashable, list[int]] = defaultdict(list)
    for repository, row in zip(reversed(repositories), reversed(found), strict=True):
        if row is not None:
            later[repository].append(row)
    earliest: dict[Hashable, int] = defaultdict(int)
    result = []
    for repository, row, following, is_wanted in zip(repositories, found, follows, wanted, strict=True):
        if row is not None:
            later[repository].pop()
            earliest[repository] = max(earliest[repository], row + 1)
        elif is_wanted:
            place = max(following, earliest[repository])
            if later[repository]:
                place = max(min(place, later[repository][-1]), earliest[repository])
            earliest[repository] = place
            result.append(place)
    return result
