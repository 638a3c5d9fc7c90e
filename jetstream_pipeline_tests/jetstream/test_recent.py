"""What was seen lately is known again, and what is kept of it stays bounded."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events import keys
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.jetstream import recent
from jetstream_pipeline.jetstream.recent import Recent
from jetstream_pipeline_tests.hostile import identity


@pytest.fixture(params=["numbers", "texts"], autouse=True)
def _keys(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keys of either kind."""
    if request.param == "numbers" and not keys.known:
        pytest.skip("there was no compiler when the package was installed")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "texts":
            patch.setattr(recent, "KnownKeys", keys.KnownTexts)
            patch.setattr(recent, "identity_keys", keys.text_keys)
        yield


def events(*times: int) -> pa.RecordBatch:
    return decode([identity(time, time).encode() for time in times], "host").events


@given(st.lists(st.lists(st.integers(0, 50) | st.integers(51, 5_000), max_size=8), max_size=20))
def test_each_event_is_new_once(batches: list[list[int]]) -> None:
    seen = Recent(span_us=1_000)
    new = [
        time
        for batch in batches
        for time, fresh in zip(batch, seen.fresh(events(*batch)).to_pylist(), strict=True)
        if fresh
    ]
    assert sorted(new) == sorted({time for batch in batches for time in batch})
    latest = sorted({time for batch in batches for time in batch})[-3:]
    assert seen.position == (latest[0] if latest else 0)


def test_a_single_time_far_ahead_moves_nothing() -> None:
    seen = Recent(span_us=1_000)
    seen.fresh(events(100, 101, 102, 9_000_000, 103))
    assert seen.position == 102


def test_the_operations_of_one_commit_have_one_time() -> None:
    seen = Recent(span_us=1_000)
    seen.fresh(events(100, 101, 102))
    for number in range(5):
        seen.fresh(decode([identity(9_000_000, number).encode()], "host").events)
    assert seen.position == 101


def test_an_upstream_number_makes_an_account_event_itself_whatever_else_it_says() -> None:
    seen = Recent(span_us=1_000)
    one, other = identity(1, 7), identity(2, 7).replace('"seq": 7', '"handle": "a.example", "seq": 7')
    assert seen.fresh(decode([one.encode(), other.encode()], "host").events).to_pylist() == [True, False]


def test_what_lies_further_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "_MIN_KEYS", 0)
    monkeypatch.setattr(recent, "_WITNESSES", 1)
    seen = Recent(span_us=100)
    assert seen.fresh(events(1, 2)).to_pylist() == [True, True]
    assert seen.fresh(events(150)).to_pylist() == [True]
    assert seen.fresh(events(1, 150)).to_pylist() == [True, False]


def test_the_last_events_are_known_however_long_ago_they_were() -> None:
    seen = Recent(span_us=100)
    seen.fresh(events(1, 2, 3))
    seen.fresh(events(10_000, 10_001, 10_002, 10_003))
    assert seen.fresh(events(2, 10_002, 20_000)).to_pylist() == [False, False, True]


def test_a_time_that_stands_still_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MAX_KEYS", 100)
    seen = Recent(span_us=1_000)
    for number in range(50):
        seen.fresh(events(*range(number * 10, number * 10 + 10)))
        seen.reject(decode([b"garbage %d" % number], "host").rejected)
    assert len(seen._keys) + len(seen.rejected()) <= 100
