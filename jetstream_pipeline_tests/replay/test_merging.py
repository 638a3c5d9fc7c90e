"""What comes late goes where it belongs, and all of it once."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.replay import merging
from jetstream_pipeline.replay.merging import Insertions, places


def events(names: Sequence[str]) -> pa.RecordBatch:
    rows = [{"time_us": 0, "did": name, "kind": "commit", "host": "h"} for name in names]
    return pa.RecordBatch.from_pylist(rows, EVENT_SCHEMA)


def batches(table: pa.RecordBatch, sizes: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The rows in batches of these sizes, and what is left in one more."""
    for size in sizes:
        yield table.slice(0, size)
        table = table.slice(min(size, table.num_rows))
    yield table


def naive(names: Sequence[str], inserted: Sequence[tuple[str, int]]) -> list[str]:
    result = []
    for row in range(len(names) + 1):
        result += [name for name, place in inserted if place == row]
        result += names[row : row + 1]
    return result


@given(st.data())
@pytest.mark.parametrize("at_once", [1, 300, merging._INSERTED_BYTES])
def test_insertions_are_those_into_a_list(at_once: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    rows = data.draw(st.lists(st.integers(0, count), max_size=12))
    sizes = st.lists(st.integers(0, 5), max_size=6)
    names = [f"own{number}" for number in range(count)]
    inserted = [(f"late{number}", row) for number, row in enumerate(rows)]
    late = pa.Table.from_batches(batches(events([name for name, _ in inserted]), data.draw(sizes)), EVENT_SCHEMA)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(merging, "_INSERTED_BYTES", at_once)
        merged = Insertions(late, rows).merged(batches(events(names), data.draw(sizes)))
        found = pa.Table.from_batches(merged, EVENT_SCHEMA)
    found.validate(full=True)
    assert found["did"].to_pylist() == naive(names, inserted)


def test_a_batch_stays_one_batch_however_many_events_go_into_it() -> None:
    own, late = events([str(number) for number in range(4000)]), events([str(number) for number in range(2000)])
    insertions = Insertions(pa.Table.from_batches([late]), range(0, 4000, 2))
    merged = list(insertions.merged(batches(own, [1500, 1500])))
    assert [batch.num_rows for batch in merged] == [2250, 2250, 1500]


Stream = list[tuple[int, int]]
"""Events of several repositories: whose, and the how manieth of it."""


@st.composite
def interleavings(draw: st.DrawFn) -> tuple[Stream, Stream]:
    """Two hosts' views of the same repositories, each of which lacks some events."""
    repositories = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    owners = [owner for owner, number in enumerate(repositories) for _ in range(number)]
    views = []
    for _ in range(2):
        counts = dict.fromkeys(owners, 0)
        view = []
        for owner in draw(st.permutations(owners)):
            view.append((owner, counts[owner]))
            counts[owner] += 1
        seen = draw(st.lists(st.booleans(), min_size=len(view), max_size=len(view)))
        views.append([event for event, is_seen in zip(view, seen, strict=True) if is_seen])
    return views[0], views[1]


@given(interleavings(), st.data())
def test_each_repositorys_order_holds_and_all_wanted_are_there_once(
    views: tuple[Stream, Stream], data: st.DataObject
) -> None:
    here, there = views
    found = [here.index(event) if event in here else None for event in there]
    asked = data.draw(st.lists(st.booleans(), min_size=len(there), max_size=len(there)))
    wanted = [row is None and is_asked for row, is_asked in zip(found, asked, strict=True)]
    follows, latest = [], 0
    for row in found:
        follows.append(latest)
        latest = latest if row is None else row + 1
    late = [event for event, is_wanted in zip(there, wanted, strict=True) if is_wanted]
    lacking = {owner for owner, _ in late}
    kept = [number for number, (owner, _) in enumerate(there) if owner in lacking]
    rows = places(
        [there[number][0] for number in kept],
        [found[number] for number in kept],
        [follows[number] for number in kept],
        [wanted[number] for number in kept],
    )
    texts = {f"{owner}/{number}": (owner, number) for owner, number in here + late}
    inserted = [(f"{owner}/{number}", row) for (owner, number), row in zip(late, rows, strict=True)]
    merged = [texts[text] for text in naive([f"{owner}/{number}" for owner, number in here], inserted)]
    assert sorted(merged) == sorted(here + late)
    assert [event for event in merged if event in here] == here
    for owner in lacking:
        # How what only one host has stands to what only the other one has is nowhere to be seen.
        assert [event for event in merged if event in there and event[0] == owner] == sorted(
            event for event in merged if event in there and event[0] == owner
        )
