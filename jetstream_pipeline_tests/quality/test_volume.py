"""A window has about as many events as the same hour of the days before."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.quality.finding import Finding
from jetstream_pipeline.quality.volume import volume
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline_tests.quality.summaries import poisson, shifted, summary
from jetstream_pipeline_tests.windows import HOUR

LIKE, POST, BLOCK = "app.bsky.feed.like", "app.bsky.feed.post", "app.bsky.graph.block"
seeds = st.integers(0, 2**64)
days = st.integers(3, 7)
rates = st.floats(0, 6).map(lambda power: 10**power - 1)


def with_counts(collections: dict[str, int], day: int = 0, **others: str) -> WindowSummary:
    return summary(shifted(-24 * day), sum(collections.values()), collections=collections, **others)  # type: ignore[arg-type]


def of_a_network(lots: random.Random, rate: float, day: int = 0) -> dict[str, int]:
    shares = {LIKE: 0.6, POST: 0.3, BLOCK: 0.1}
    return {collection: poisson(lots, rate * share) for collection, share in shares.items()}


@given(seeds, rates, days)
def test_a_poisson_process_is_never_suspected_whatever_its_rate(seed: int, rate: float, number: int) -> None:
    lots = random.Random(seed)
    previous = [with_counts(of_a_network(lots, rate), day) for day in range(1, number + 1)]
    found = volume(with_counts(of_a_network(lots, rate)), previous)
    assert found.passed, found.text


@given(seeds, st.floats(4, 6).map(lambda power: 10**power), days, st.sampled_from([LIKE, POST, BLOCK]))
def test_a_collection_that_is_halved_missing_or_fourfold_is_told(
    seed: int, rate: float, number: int, collection: str
) -> None:
    lots = random.Random(seed)
    previous = [with_counts(of_a_network(lots, rate), day) for day in range(1, number + 1)]
    for factor in (0.5, 0.0, 4.0):
        counts = of_a_network(lots, rate)
        counts[collection] = int(counts[collection] * factor)
        found = volume(with_counts(counts), previous)
        assert not found.passed
        assert f"{collection}: {counts[collection]:,}, where the median of {number} days is" in found.text
        assert found.figures[f"ratio {collection}"] == pytest.approx(factor, abs=factor * 0.3)


@given(
    st.integers(1, 3).flatmap(
        lambda half: st.lists(st.integers(0, 10**7), min_size=2 * half + 1, max_size=2 * half + 1)
    )
)
def test_a_day_like_the_one_in_the_middle_is_as_usual(counts: list[int]) -> None:
    previous = [with_counts({LIKE: count}, day) for day, count in enumerate(counts, 1)]
    usual = sorted(counts)[len(counts) // 2]
    assert volume(with_counts({LIKE: usual}), previous).passed


def test_figures_tell_the_medians_and_the_ratios() -> None:
    previous = [with_counts({LIKE: count, POST: 100}, day) for day, count in enumerate((900, 1000, 1400), 1)]
    found = volume(with_counts({LIKE: 500, POST: 50}), previous)
    assert found.figures == {
        "events": 550,
        "days": 3,
        "median": 1100,
        "ratio": 0.5,
        f"median {POST}": 100,
        f"ratio {POST}": 0.5,
        f"median {LIKE}": 1000,
        f"ratio {LIKE}": 0.5,
    }


def test_days_that_differ_much_among_themselves_excuse_a_day_that_differs() -> None:
    steady = [with_counts({LIKE: count}, day) for day, count in enumerate((990, 1000, 1010, 1000), 1)]
    moody = [with_counts({LIKE: count}, day) for day, count in enumerate((700, 900, 1100, 1300), 1)]
    today = with_counts({LIKE: 300})
    assert not volume(today, steady).passed
    assert volume(today, moody).passed
    wild = [with_counts({LIKE: count}, day) for day, count in enumerate((300, 1000, 3000, 5000), 1)]
    assert volume(with_counts({LIKE: 7000}), wild).passed
    assert not volume(with_counts({LIKE: 9000}), wild).passed


def test_a_halved_hour_is_told_where_days_differ_by_a_tenth() -> None:
    previous = [with_counts({LIKE: count}, day) for day, count in enumerate((900, 1000, 1100), 1)]
    assert not volume(with_counts({LIKE: 500}), previous).passed


def test_a_collection_that_nobody_wrote_to_before_is_told_once_it_is_large() -> None:
    previous = [with_counts({LIKE: 10_000}, day) for day in (1, 2, 3)]
    assert volume(with_counts({LIKE: 10_000, BLOCK: 500}), previous).passed
    assert BLOCK in volume(with_counts({LIKE: 10_000, BLOCK: 5_000}), previous).text


def test_less_than_three_days_of_the_same_filter_say_nothing() -> None:
    previous = [with_counts({LIKE: 10**6}, 1), with_counts({LIKE: 10**6}, 2)]
    others = [
        with_counts({LIKE: 10**6}, 3, fingerprint="g"),
        with_counts({LIKE: 10**6}, 4, state=WindowState.TRUNCATED),
    ]
    found = volume(with_counts({}), [*previous, *others])
    text = "only 2 of the days before have this hour: nothing to compare with"
    assert found == Finding(True, text, {"events": 0, "days": 2})
    assert not volume(with_counts({}), [*previous, with_counts({LIKE: 10**6}, 5)]).passed


def test_an_hour_like_its_days_says_so() -> None:
    previous = [with_counts({LIKE: 1000}, day) for day in (1, 2, 3)]
    assert volume(summary(HOUR, 1000, collections={LIKE: 1000}), previous).text == (
        "1,000 events; the median of 3 days is 1,000"
    )
