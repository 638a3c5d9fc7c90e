"""Events that come late into the file of a window: where they go, so that stream order and each repository's own order
hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Insertions:
    """Events to be put among those of a file: each before the row of the number beside it, 0 being the first."""

    events: pa.Table
    rows: Sequence[int]

    def merged(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A file's events with these among them."""
        order = sorted(range(len(self.rows)), key=self.rows.__getitem__)
        waiting = self.events.take(pa.array(order, pa.int64())).combine_chunks()
        places = [self.rows[number] for number in order]
        done = row = 0
        for batch in batches:
            start = 0
            while done < len(places) and places[done] < row + batch.num_rows:
                place = places[done]
                yield batch.slice(start, place - row - start)
                start = place - row
                last = done
                while last < len(places) and places[last] == place:
                    last += 1
                yield from waiting.slice(done, last - done).to_batches()
                done = last
            yield batch.slice(start)
            row += batch.num_rows
        yield from waiting.slice(done).to_batches()


def places(dids: Sequence[str], found: Sequence[int | None], wanted: Sequence[bool]) -> list[int]:
    """Where those events of another host's stream that are `wanted` go, in that stream's order.

    `dids`: the repository of each of its events; `found`: the row of the file in which each stands, None where it is
    not there. A wanted event goes after the one that it follows there, within its repository's own order.
    """
    missing = {did for did, is_wanted in zip(dids, wanted, strict=True) if is_wanted}
    later: dict[str, list[int]] = defaultdict(list)
    for did, row in zip(reversed(dids), reversed(found), strict=True):
        if row is not None and did in missing:
            later[did].append(row)
    follows, earliest = 0, dict.fromkeys(missing, 0)
    result = []
    for did, row, is_wanted in zip(dids, found, wanted, strict=True):
        if row is not None:
            follows = row + 1
            if did in missing:
                later[did].pop()
                earliest[did] = max(earliest[did], row + 1)
        elif is_wanted:
            place = max(follows, earliest[did])
            if later[did]:
                place = max(min(place, later[did][-1]), earliest[did])
            earliest[did] = place
            result.append(place)
    return result
