"""Where a stream passes a moment follows from the events around the passage, and from nothing else."""

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events.crossing import Crossing, crossing
from jetstream_pipeline.events.decode import decode

MOMENT = 1_000


def stream(*times: int, repository: int | None = None) -> pa.RecordBatch:
    """Commits of repositories of their own, or all operations of one commit."""
    messages = []
    for number, time_us in enumerate(times):
        did = f"did:plc:{number if repository is None else repository}"
        commit = {"rev": "3k", "operation": "delete", "collection": "app.bsky.feed.like", "rkey": str(number)}
        messages.append(json.dumps({"did": did, "time_us": time_us, "kind": "commit", "commit": commit}).encode())
    return decode(messages, "host").events


def test_the_first_event_at_or_after_the_moment_passes_it() -> None:
    assert crossing(stream(998, 999, 1_000, 1_001, 1_002, 1_003), MOMENT) == Crossing(2, True)


def test_one_time_that_was_imported_or_wrong_is_no_passage() -> None:
    assert crossing(stream(990, 5_000, 991, 992, 993, 1_000, 1_001, 1_002, 1_003), MOMENT) == Crossing(5, True)


def test_all_operations_of_one_commit_have_one_vote() -> None:
    wrong = stream(*[5_000] * 50, repository=99)
    events = pa.Table.from_batches([stream(990), wrong, stream(991, 992, 993)]).combine_chunks().to_batches()[0]
    assert crossing(events, MOMENT) == Crossing(events.num_rows, False)


def test_an_old_imported_time_just_after_the_passage_does_not_undo_it() -> None:
    assert crossing(stream(999, 1_000, 3, 1_001, 1_002, 1_003), MOMENT) == Crossing(1, True)


def test_too_few_commits_decide_nothing_until_no_more_come() -> None:
    events = stream(999, 1_000, 1_001)
    assert crossing(events, MOMENT) == Crossing(1, False)
    assert crossing(events, MOMENT, final=True) == Crossing(1, True)
    assert crossing(stream(999, 1_000, 3, 4), MOMENT, final=True) == Crossing(4, False)


def test_a_stream_before_the_moment_is_wholly_before_it() -> None:
    assert crossing(stream(1, 2, 3), MOMENT) == Crossing(3, False)
    assert crossing(stream(), MOMENT) == Crossing(0, False)


@given(st.lists(st.integers(MOMENT - 3, MOMENT + 3), max_size=40), st.lists(st.integers(0, 12), max_size=6))
def test_it_lies_in_the_same_place_in_whatever_parts_the_events_come(times: list[int], sizes: list[int]) -> None:
    whole = stream(*times)
    at_once = crossing(whole, MOMENT, final=True)
    decided, held, rest = 0, whole.slice(0, 0), whole
    for size in sizes:
        part, rest = rest.slice(0, size), rest.slice(size)
        held = pa.Table.from_batches([held, part]).combine_chunks().to_batches()
        held = held[0] if held else whole.slice(0, 0)
        before, passed = crossing(held, MOMENT)
        decided, held = decided + before, held.slice(before)
        if passed:
            assert at_once == Crossing(decided, True)
            return
    held = whole.slice(decided)
    before, passed = crossing(held, MOMENT, final=True)
    assert at_once == Crossing(decided + before, passed)


@given(st.lists(st.integers(MOMENT - 5, MOMENT - 1), max_size=30), st.lists(st.integers(0, 9_999), max_size=30))
def test_it_does_not_depend_on_where_one_began_to_read(before: list[int], times: list[int]) -> None:
    """Two windows that meet at a moment began to read it from different places."""
    tail = stream(*times, *[2_000] * 4)
    whole = stream(*before, *times, *[2_000] * 4)
    assert crossing(whole, MOMENT, final=True).before == len(before) + crossing(tail, MOMENT, final=True).before
