"""What is beyond a limit is the oldest, and as much as it takes; the newest window always stays."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.retention.plan import Held, due, horizon
from jetstream_pipeline.retention.rules import Limit, Retention
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.windows import HOUR

GIGABYTE = 10**9


def hour(number: int) -> Window:
    return Window.hour(HOUR.start + timedelta(hours=number))


def held(*numbers: int, size: int = GIGABYTE) -> list[Held]:
    return [Held(hour(number), (), size) for number in numbers]


def gone(standing: list[Held], limit: Limit, now: Window) -> dict[Window, str]:
    return {one.held.window: one.why for one in due(standing, limit, now.start)}


def test_a_window_goes_by_age_when_all_of_it_is_older() -> None:
    standing = held(0, 1, 30, 40)
    assert gone(standing, Limit(days=1), hour(24)) == {}
    assert gone(standing, Limit(days=1), hour(25)) == {hour(0): "older than 1 days"}
    assert list(gone(standing, Limit(days=1), hour(54))) == [hour(0), hour(1)]


def test_what_is_beyond_the_newest_gigabytes_goes() -> None:
    standing = held(0, 1, 2, 3)
    assert gone(standing, Limit(gigabytes=4), hour(4)) == {}
    assert gone(standing, Limit(gigabytes=3.9), hour(4)) == {hour(0): "beyond the newest 3.9 GB"}
    assert list(gone(standing, Limit(gigabytes=2), hour(4))) == [hour(0), hour(1)]


def test_each_window_says_which_limit_it_is_beyond() -> None:
    reasons = gone(held(0, 40, 41), Limit(days=1, gigabytes=1), hour(42))
    assert list(reasons.values()) == ["older than 1 days", "beyond the newest 1 GB"]


def test_without_limits_or_windows_nothing_goes() -> None:
    assert gone(held(0), Limit(), hour(10_000)) == {}
    assert gone([], Limit(days=1, gigabytes=1), hour(10_000)) == {}


@pytest.mark.parametrize("limit", [{"days": 0}, {"gigabytes": 0}, {"gigabytes": -1}, {"gigabytes": float("nan")}])
def test_a_limit_that_keeps_nothing_is_none(limit: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="keeps nothing"):
        Limit(**limit)  # type: ignore[arg-type]


def test_a_limit_of_more_days_than_there_are_is_none() -> None:
    with pytest.raises(InvalidInput, match="write 100000 or fewer"):
        Limit(days=1_000_000)


def test_a_retention_without_limits_is_none() -> None:
    assert not Retention(backed_up="/mnt")
    assert Retention(tables=Limit(days=1))


@given(
    st.dictionaries(st.integers(0, 100), st.integers(0, 5), max_size=12),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 10),
    st.integers(0, 150),
)
def test_what_stays_is_within_the_limits_and_the_newest(
    sizes: dict[int, int], days: int | None, gigabytes: int | None, now: int
) -> None:
    standing = [Held(hour(number), (), size * GIGABYTE) for number, size in sorted(sizes.items())]
    limit = Limit(days, gigabytes)
    going = [one.held for one in due(standing, limit, hour(now).start)]
    staying = standing[len(going) :]
    assert going + staying == standing
    if not standing:
        return
    assert staying
    kept_from = horizon(standing, limit, hour(now).start)
    assert kept_from is None or all(one.window.start < kept_from for one in going)
    assert len(staying) == 1 or gigabytes is None or sum(one.bytes for one in staying) <= gigabytes * GIGABYTE
    oldest = hour(now).start - timedelta(days=days or 10_000)
    assert all(one.window.end > oldest for one in staying[:-1])
    for one in going[-1:]:  # the newest that goes had to
        is_old = one.window.end <= oldest
        size = one.bytes + sum(one.bytes for one in staying)
        assert is_old or (gigabytes is not None and size > gigabytes * GIGABYTE)
