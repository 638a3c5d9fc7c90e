"""The newest window is the one that should be there by now."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.quality.finding import Finding
from jetstream_pipeline.quality.freshness import freshness

SETTLE = timedelta(minutes=5)
FOUR = datetime(2026, 7, 4, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minutes", "behind"), [(0, 0), (59, 0), (94, 0), (95, 1), (154, 1), (155, 2), (24 * 60 + 40, 24)]
)
def test_an_hour_is_behind_when_it_ended_longer_ago_than_the_settling_and_half_an_hour(
    minutes: int, behind: int
) -> None:
    found = freshness(FOUR, FOUR + timedelta(minutes=minutes), SETTLE)
    assert found.figures == {"hours_behind": behind}
    assert found.passed == (behind == 0)
    assert "2026-07-04 16:00 UTC" in found.text
    assert found.text.startswith(f"{behind} hour") == (behind > 0)


def test_what_should_stand_is_named() -> None:
    found = freshness(FOUR, FOUR + timedelta(hours=3), SETTLE)
    assert found.text == (
        "2 hours behind: the newest window ends at 2026-07-04 16:00 UTC, and one that ends at 2026-07-04 18:00 UTC "
        "should stand"
    )
    assert freshness(FOUR, FOUR + timedelta(hours=2), SETTLE).text.startswith("1 hour behind:")


def test_a_lake_without_windows_is_not_fresh() -> None:
    assert freshness(None, FOUR, SETTLE) == Finding(
        False, "no whole window stands in the lake; one that ends at 2026-07-04 15:00 UTC should"
    )


@given(st.integers(-100, 100), st.timedeltas(timedelta(0), timedelta(hours=200)), st.integers(-12, 12))
def test_the_clocks_zone_does_not_matter_and_no_window_is_less_than_none_behind(
    hour: int, later: timedelta, offset: int
) -> None:
    end, now = FOUR + timedelta(hours=hour), FOUR + later
    found = freshness(end, now, SETTLE)
    assert freshness(end, now.astimezone(timezone(timedelta(hours=offset))), SETTLE) == found
    behind = found.figures["hours_behind"]
    assert behind == len([h for h in range(400) if end + timedelta(hours=h + 1, minutes=35) <= now])
