"""Windows tile time: every microsecond lies in exactly one of them."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.window import Window, from_us, hours, parse_time, to_us

MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(MOMENTS, ZONES)
def test_an_hour_holds_its_moment_whatever_zone_tells_it(moment: datetime, zone: timezone) -> None:
    window = Window.hour(moment.astimezone(zone))
    assert window == Window.hour(moment)
    assert window.start <= moment < window.end
    assert window.end_us - window.start_us == 3_600_000_000
    assert window.is_hour


@given(MOMENTS)
def test_microseconds_and_keys_go_there_and_back(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment
    window = Window.hour(moment)
    assert Window.from_key(window.key) == window


@given(MOMENTS, st.integers(1, 100))
def test_the_hours_of_a_span_follow_each_other_without_gap(moment: datetime, count: int) -> None:
    first = Window.hour(moment)
    found = list(hours(first.start, first.start + timedelta(hours=count)))
    assert len(found) == count
    assert found[0] == first
    assert all(left.end == right.start for left, right in pairwise(found))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-07-04", datetime(2026, 7, 4, tzinfo=UTC)),
        ("2026-07-04-14:30", datetime(2026, 7, 4, 14, 30, tzinfo=UTC)),
        ("2026-07-04-14:30:15", datetime(2026, 7, 4, 14, 30, 15, tzinfo=UTC)),
        ("2026-07-04T14:30:15Z", datetime(2026, 7, 4, 14, 30, 15, tzinfo=UTC)),
        (" 2026-07-04T14:30:15+02:00 ", datetime(2026, 7, 4, 12, 30, 15, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_people_type_them(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize("key", ["2026-07-04", "2026-07-04-14:30", "2026-07-04-24:00", "x"])
def test_a_key_that_is_no_hours_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        Window.from_key(key)


def test_spans_that_are_no_whole_hours_are_refused() -> None:
    start = datetime(2026, 7, 4, 14, tzinfo=UTC)
    for first, last in ((start, start), (start + timedelta(minutes=1), start + timedelta(hours=1))):
        with pytest.raises(InvalidInput):
            list(hours(first, last))
