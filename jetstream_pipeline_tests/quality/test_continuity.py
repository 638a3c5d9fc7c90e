"""Windows join on to each other, as far as their times and numbers show."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.quality.continuity import continuity
from jetstream_pipeline.quality.finding import Finding
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline_tests.quality.summaries import LENGTH, SKEW, of_a_poisson_process, shifted, summary
from jetstream_pipeline_tests.windows import HOUR

BEFORE, AFTER = shifted(-1), shifted(1)
SECOND = timedelta(seconds=1)
rates = st.floats(0, 7).map(lambda power: 10**power - 1)
seeds = st.integers(0, 2**64)


def judged(window: WindowSummary, before: WindowSummary | None = None, after: WindowSummary | None = None) -> Finding:
    return continuity(window, before, after, SKEW)


@given(seeds, rates, st.floats(0.5, 2.0), st.sampled_from([1, 2, 5, 10]), st.sampled_from([timedelta(0), SKEW]))
def test_a_poisson_process_is_never_suspected_whatever_its_rate_its_clumps_and_its_change(
    seed: int, rate: float, change: float, clump: int, skew: timedelta
) -> None:
    lots = random.Random(seed)
    hours = [(BEFORE, rate), (HOUR, rate * change), (AFTER, rate)]
    before, window, after = (of_a_poisson_process(lots, hour, mean, clump) for hour, mean in hours)
    found = continuity(window, before, after, skew)
    assert found.passed, found.text


@given(seeds, st.floats(5, 7).map(lambda power: 10**power), st.floats(60, 1800))
def test_a_busy_streams_silence_at_the_seam_is_told_on_either_side(seed: int, rate: float, silent: float) -> None:
    lots, lost = random.Random(seed), timedelta(seconds=silent)
    before, window, after = (of_a_poisson_process(lots, hour, rate) for hour in (BEFORE, HOUR, AFTER))
    late = window.model_copy(update={"first_time": HOUR.start + lost})
    early = window.model_copy(update={"last_time": HOUR.end - lost})
    for found, side in ((judged(late, before, after), "before"), (judged(early, before, after), "after")):
        assert not found.passed
        assert "a silence of" in found.text
        assert f"at the seam {side} it, far beyond" in found.text
        assert found.figures[f"gap_{side}_sec"] == pytest.approx(silent, abs=2)


@given(seeds, st.integers(0, 4999), st.floats(0, 1))
def test_what_a_single_account_may_write_in_an_hour_has_no_rate(seed: int, events: int, silent: float) -> None:
    window = summary(HOUR, events, first=HOUR.start + silent * LENGTH)
    assert judged(window, of_a_poisson_process(random.Random(seed), BEFORE, 1e6)).passed


@pytest.mark.parametrize(("gaps", "passed"), [(60, True), (400, True), (600, False)])
def test_a_silence_of_some_hundred_mean_gaps_is_told(gaps: int, passed: bool) -> None:
    before, window = summary(BEFORE, 100_000), summary(HOUR, 100_000, first=HOUR.start + LENGTH * gaps / 100_000)
    assert continuity(window, before, None, timedelta(0)).passed == passed


def test_what_hosts_clocks_may_differ_by_is_no_silence() -> None:
    before = summary(BEFORE, 10_000_000)
    assert judged(summary(HOUR, 10_000_000, first=HOUR.start + SKEW), before).passed
    assert not judged(summary(HOUR, 10_000_000, first=HOUR.start + SKEW + SECOND), before).passed


def test_times_may_overlap_by_as_much_as_hosts_clocks_may_differ() -> None:
    before = summary(BEFORE, 10, last=HOUR.start + SKEW / 2)
    assert judged(summary(HOUR, 10, first=HOUR.start - SKEW / 2), before).passed
    found = judged(summary(HOUR, 10, first=HOUR.start - SKEW / 2 - SECOND), before)
    assert not found.passed
    assert "overlap by 31.000 s at the seam before it" in found.text
    assert found.figures["gap_before_sec"] == -31.0


@pytest.mark.parametrize("away", [timedelta(days=-700), -2 * SKEW, LENGTH + 2 * SKEW, timedelta(days=700)])
def test_an_imported_time_says_nothing_of_a_seam(away: timedelta) -> None:
    imported = summary(HOUR, 10_000, first=HOUR.start + away, last=HOUR.start + away)
    found = judged(imported, summary(BEFORE, 10_000), summary(AFTER, 10_000))
    assert found.passed
    assert found.text == "an imported time at the seam before it; an imported time at the seam after it"


def test_neighbours_that_are_not_there_are_told() -> None:
    found = judged(summary(HOUR, 10))
    assert found == Finding(True, "no whole window before it can be read; no whole window after it can be read")


def test_windows_without_events_have_no_seam_to_judge() -> None:
    assert judged(summary(HOUR), summary(BEFORE, 10**7), summary(AFTER, 10**7)).passed
    found = judged(summary(HOUR, 10**7), summary(BEFORE), summary(AFTER))
    assert found == Finding(
        True, "no event on one side of the seam before it; no event on one side of the seam after it"
    )


def test_a_neighbour_of_another_filter_is_told() -> None:
    found = judged(summary(HOUR, 10), summary(BEFORE, 10), summary(AFTER, 10, fingerprint="g"))
    assert not found.passed
    assert "the window after it has another filter" in found.text
    assert found.figures == {"gap_before_sec": 0.0}
