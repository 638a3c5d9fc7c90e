"""What was seen lately is known again, and what is kept of it stays bounded."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.jetstream import recent
from jetstream_pipeline.jetstream.recent import Recent
from jetstream_pipeline_tests.hostile import identity


def events(*times: int) -> pa.RecordBatch:
    return decode([identity(time, time).encode() for time in times], "host").events


@given(st.lists(st.lists(st.integers(0, 50), max_size=8), max_size=10))
def test_each_event_is_new_once(batches: list[list[int]]) -> None:
    seen = Recent(span_us=1_000)
    new = [time for batch in batches for time, fresh in zip(batch, seen.fresh(events(*batch)), strict=True) if fresh]
    assert sorted(new) == sorted({time for batch in batches for time in batch})
    assert seen.position == max((time for batch in batches for time in batch), default=0)


def test_what_lies_further_back_is_forgotten() -> None:
    seen = Recent(span_us=100)
    assert seen.fresh(events(1, 2)) == [True, True]
    assert seen.fresh(events(150)) == [True]
    assert seen.fresh(events(1, 150)) == [True, False]


def test_a_time_that_stands_still_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "_MAX_KEYS", 100)
    seen = Recent(span_us=1_000)
    for number in range(50):
        seen.fresh(events(*range(number * 10, number * 10 + 10)))
        seen.reject(decode([b"garbage %d" % number], "host").rejected)
    assert len(seen._keys) + len(seen.rejected()) <= 100
