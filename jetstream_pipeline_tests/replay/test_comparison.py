"""Two hosts' views held against each other, in little room."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events.identity import identities
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.replay import comparison
from jetstream_pipeline.replay.comparison import Lack, compare
from jetstream_pipeline.replay.edges import Section
from jetstream_pipeline.replay.seams import Seams
from jetstream_pipeline_tests.windows import HOUR

SKEW_US = 30_000_000
SEAMS = Seams(HOUR, "filter", SKEW_US)

Event = tuple[int, int]
"""Whose, and the how manieth of it."""


def row(event: Event, second: int, size: int = 0) -> dict[str, Any]:
    owner, number = event
    commit = {"rev": f"3r{number:05}", "collection": f"a.b.c{owner % 2}", "rkey": f"k{number}", "operation": "create"}
    if number % 7 == 6:
        commit = {"payload": f'{{"seq":{number}}}'}
    kind = "commit" if "rev" in commit else "identity"
    time_us = HOUR.start_us + second * 1_000_000
    return {"did": f"did:plc:{owner}", "kind": kind, "time_us": time_us, "host": "h", "record": "x" * size, **commit}


def batches(rows: Sequence[dict[str, Any]], size: int = 5) -> Iterator[pa.RecordBatch]:
    return iter(pa.Table.from_pylist(rows, EVENT_SCHEMA).to_batches(size))


def clear(batch: pa.RecordBatch, ids: Sequence[str], seams: Seams) -> list[bool]:
    """Which events belong to the window whatever the hosts' clocks say."""
    result = []
    for time_us, one in zip(batch["time_us"].to_pylist(), ids, strict=True):
        is_clear = True
        for neighbour, edge in ((seams.previous, HOUR.start_us), (seams.following, HOUR.end_us)):
            near = edge - SKEW_US <= time_us < edge + SKEW_US
            is_clear &= not near if neighbour is None else one not in neighbour.to_pylist()
        result.append(is_clear)
    return result


events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=30)
seconds = st.integers(0, 3599)


@given(events, events, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=4), st.data())
@pytest.mark.parametrize("at_once", [1, 12, comparison._ROWS_AT_ONCE])
def test_what_either_host_lacks_is_what_sets_say(
    at_once: int, here: list[Event], there: list[Event], held: list[Event], data: st.DataObject
) -> None:
    first = [row(event, data.draw(seconds)) for event in here]
    second = [row(event, data.draw(seconds)) for event in there]
    section = st.sampled_from([Section.LEAD, Section.WINDOW, Section.TAIL])
    sections = [data.draw(section) for _ in batches(second)]
    seams = Seams(HOUR, "filter", SKEW_US)
    if held:
        seams.previous = identities(pa.Table.from_pylist([row(event, 0) for event in held], EVENT_SCHEMA))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparison, "_ROWS_AT_ONCE", at_once)
        found = compare(batches(first), lambda: zip(sections, batches(second), strict=True), seams)
    own = {one for batch in batches(first) for one in identities(batch).to_pylist()}
    others, missing, sure_there = set(), [], 0
    for section_, batch in zip(sections, batches(second), strict=True):
        ids = identities(batch).to_pylist()
        others |= set(ids)
        sure = [section_ is Section.WINDOW and one for one in clear(batch, ids, seams)]
        sure_there += sum(sure)
        missing += [one for one, is_sure in zip(ids, sure, strict=True) if is_sure and one not in own]
    assert identities(found.insertions.events).to_pylist() == missing
    assert (found.lacking_here.of, found.lacking_here.events) == (sure_there, len(missing))
    assert found.lacking_here.repositories == len({one.split("\x1f")[0] for one in missing})
    lacks = [one for batch in batches(first) for one in identities(batch).to_pylist() if one not in others]
    # Every moment lies within the hour, so nothing was taken over from beyond it.
    assert (found.lacking_there.of, found.lacking_there.events) == (len(here), len(lacks))
    assert len(found.insertions.rows) == len(missing)


def test_what_is_missing_goes_after_what_it_follows_there_within_its_repositorys_order() -> None:
    own = [(0, 1), (1, 1), (0, 3), (2, 1), (1, 3)]
    there = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 1), (0, 2), (1, 3), (0, 3), (3, 1)]
    found = compare(
        batches([row(event, 60) for event in own], 2),
        lambda: ((Section.WINDOW, batch) for batch in batches([row(event, 60) for event in there], 4)),
        SEAMS,
    )
    dids = found.insertions.events["did"].to_pylist()
    assert list(zip(dids, found.insertions.rows, strict=True)) == [
        ("did:plc:0", 0),
        ("did:plc:1", 2),
        ("did:plc:0", 2),
        ("did:plc:3", 3),
    ]


@pytest.mark.parametrize(
    ("lacking", "of", "is_blindness"),
    [(9, 9, False), (10, 10, True), (10, 9_999, True), (10, 10_000, False), (11, 10_000, True), (11, 11_000, False)],
)
def test_a_host_is_blind_that_lacks_ten_events_and_more_than_one_in_a_thousand(
    lacking: int, of: int, is_blindness: bool
) -> None:
    lack = Lack(events=lacking, of=of, repositories=1, by_collection={}, by_repository={})
    assert lack.is_blindness is is_blindness


def test_hosts_that_agree_are_read_once_and_little_of_an_event_is_kept() -> None:
    size, count, at_once = 1000, 20_000, 500
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for start in range(0, count, at_once):
            rows = [row((number % 50, number), 60 + number % 3000, size) for number in range(start, start + at_once)]
            writer.write_batch(pa.RecordBatch.from_pylist([one | {"rkey": "k" * size} for one in rows], EVENT_SCHEMA))
    stored, readings, most = sink.getvalue(), 0, 0
    before = pa.total_allocated_bytes()

    def read() -> Iterator[tuple[int, pa.RecordBatch]]:
        nonlocal readings, most
        readings += 1
        with pa.ipc.open_stream(stored) as reader:
            for batch in reader:
                yield Section.WINDOW, batch
                most = max(most, pa.total_allocated_bytes() - before)

    found = compare((batch for _, batch in read()), read, SEAMS)
    assert (found.lacking_here.events, found.lacking_there.events, found.lacking_here.of) == (0, 0, count)
    assert found.insertions.rows == []
    assert readings == 2
    assert most < count * size / 2
