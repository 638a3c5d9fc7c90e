"""Whether a window joins on to those beside it, as far as its events' times and numbers can show.

A window's proof says what the replay saw. This is the second look from outside: a silence at a seam that the windows'
own rates make next to impossible, clocks that overlap, filters that differ.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from jetstream_pipeline.quality.finding import Figures, Finding
from jetstream_pipeline.storage.summary import WindowSummary

_ENOUGH = 5000
"""Events in each of the two windows before a silence says anything. One account alone, whose hours have no rate, may
not write more in an hour: servers give it 5,000 points, and the cheapest operation costs one."""
_CLUMP = 10
"""Events come in clumps (threads, batches, imports), and rates change within the hour: so many count as one."""
_SURPRISE = 50.0
"""A silence this unlikely fails, as the negative logarithm of its probability: 1e-20 for a Poisson process."""
_MICROSECOND = timedelta(microseconds=1)


def continuity(
    window: WindowSummary, before: WindowSummary | None, after: WindowSummary | None, skew: timedelta
) -> Finding:
    """Passes where both seams hold; a neighbour that is None is told, and no failure.

    `skew` is what hosts' clocks may differ by. A seam is not judged where the event next to it has an imported time.
    """
    seams = [_seam("before", before, window, skew), _seam("after", window, after, skew)]
    figures = seams[0].figures | seams[1].figures
    return Finding(all(seam.passed for seam in seams), "; ".join(seam.text for seam in seams), figures)


def _seam(side: str, earlier: WindowSummary | None, later: WindowSummary | None, skew: timedelta) -> Finding:
    if not (earlier and later):
        return Finding(True, f"no whole window {side} it can be read")
    if earlier.fingerprint != later.fingerprint:
        return Finding(False, f"the window {side} it has another filter; replay it with this one's")
    if earlier.last_time is None or later.first_time is None:
        return Finding(True, f"no event on one side of the seam {side} it")
    if not _witnessed(earlier, earlier.last_time, skew) or not _witnessed(later, later.first_time, skew):
        return Finding(True, f"an imported time at the seam {side} it")
    gap = later.first_time - earlier.last_time
    figures: Figures = {f"gap_{side}_sec": round(gap.total_seconds(), 6)}
    if gap < -skew:
        text = f"times overlap by {_seconds(-gap)} at the seam {side} it, more than hosts' clocks may differ by"
        return Finding(False, f"{text} ({_seconds(skew)})", figures)
    silences = (earlier.end - earlier.last_time, later.first_time - later.start)
    if _surprise((earlier, later), silences, skew) > _SURPRISE:
        text = f"a silence of {_seconds(gap)} at the seam {side} it, far beyond what the rates of both make plausible"
        return Finding(False, f"{text}; compare both windows with a second host: jetstream-pipeline verify", figures)
    return Finding(True, f"{_seconds(gap)} between the events at the seam {side} it", figures)


def _witnessed(summary: WindowSummary, moment: datetime, skew: timedelta) -> bool:
    """Whether a time can be when its host witnessed the event: what lies elsewhere was imported."""
    return summary.start - skew <= moment <= summary.end + skew


def _surprise(
    windows: tuple[WindowSummary, WindowSummary], silences: tuple[timedelta, timedelta], skew: timedelta
) -> float:
    """How little the silence at a seam is to be expected: the negative logarithm of its probability.

    Given how many events a window has, a Poisson process scatters them evenly over it, whatever its rate. That all n
    of them keep clear of a share x of the window at its edge has the probability (1 - x) ** n. What clocks may differ
    by is no silence.
    """
    if min(window.events for window in windows) < _ENOUGH:
        return 0.0
    silences = (max(silences[0], timedelta()), max(silences[1], timedelta()))
    whole = sum(silences, timedelta())
    counted = max(whole - skew, timedelta()) / whole if whole else 0.0
    surprise = 0.0
    for window, silence in zip(windows, silences, strict=True):
        length = window.end - window.start
        left = max(1.0 - silence * counted / length, _MICROSECOND / length)
        surprise -= window.events / _CLUMP * math.log(left)
    return surprise


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():,.3f} s"
