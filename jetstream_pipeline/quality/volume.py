"""Whether a window has about as many events as the same hour of the days before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from jetstream_pipeline.quality.finding import Figures, Finding
from jetstream_pipeline.quality.lexicons import RECORDS
from jetstream_pipeline.storage.summary import Counts, WindowSummary

_FEWEST_DAYS = 3
_MEANINGFUL = 400
"""Events an hour below which chance alone comes too near to the bounds below."""
_LOW, _HIGH = 0.6, 3.0
"""A day's own ups and downs, a feast or a match, stay within; what lost a half does not."""
_DEVIATIONS = 3.0
_MAD_TO_DEVIATION = 1.4826
"""For a normal distribution."""
_ALL = "all"


def volume(window: WindowSummary, previous: Iterable[WindowSummary]) -> Finding:
    """Passes unless the events, or those of one of the tables' collections, are far from what days before had.

    `previous` are whole windows of the same hour; those of another filter have no say, fewer than three say nothing.
    """
    days = [day for day in previous if day.fingerprint == window.fingerprint and day.state.is_whole]
    figures: Figures = {"events": window.events, "days": len(days)}
    if len(days) < _FEWEST_DAYS:
        return Finding(True, f"only {len(days)} of the days before have this hour: nothing to compare with", figures)
    failures = []
    for what, count, usual in _subjects(window, days):
        middle = median(usual)
        suffix = "" if what == _ALL else f" {what}"
        figures[f"median{suffix}"] = middle
        if middle:
            figures[f"ratio{suffix}"] = round(count / middle, 3)
        if _is_far(count, usual):
            name = "events" if what == _ALL else what
            failures.append(f"{name}: {count:,}, where the median of {len(days)} days is {middle:,.0f}")
    if failures:
        return Finding(False, "; ".join(failures), figures)
    return Finding(
        True, f"{window.events:,} events; the median of {len(days)} days is {figures['median']:,.0f}", figures
    )


def _subjects(window: WindowSummary, days: Sequence[WindowSummary]) -> Iterator[tuple[str, int, list[int]]]:
    """What is compared: its name, how many there are, and how many there were on each day."""
    yield _ALL, window.events, [day.events for day in days]
    for collection in RECORDS:
        usual = [_of(day, collection) for day in days]
        if any(usual) or _of(window, collection):
            yield collection, _of(window, collection), usual


def _of(counts: Counts, collection: str) -> int:
    return counts.counts_by_collection.get(collection, 0)


def _is_far(count: int, usual: Sequence[int]) -> bool:
    """Whether a number is out of proportion, and by more than the days differ among themselves."""
    middle = median(usual)
    spread = _MAD_TO_DEVIATION * median(abs(day - middle) for day in usual)
    margin = _DEVIATIONS * spread
    if count < middle:
        return middle >= _MEANINGFUL and count < _LOW * middle and count < middle - margin
    return count >= _HIGH * max(middle, _MEANINGFUL) and count > middle + margin
