"""Which windows are to be asked for again: a plan over what is known, made without a clock, a disk or a scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from jetstream_pipeline.window import Window, hours

_GRACE = timedelta(minutes=10)
"""Left to the schedule, which asks for the hour that has just settled."""
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=4)


@dataclass(frozen=True)
class Attempt:
    """How often a window was asked for, and when last."""

    number: int
    at: datetime

    @property
    def next_at(self) -> datetime:
        """When it may be asked for again: pauses double."""
        return self.at + min(_FIRST_PAUSE * 2 ** min(self.number - 1, 20), _LONGEST_PAUSE)


@dataclass(frozen=True)
class Known:
    """What is known of a stream's windows: those that the lake holds whole, those that some run is to replay or is
    replaying, and how often the others were asked for."""

    whole: AbstractSet[Window]
    under_way: AbstractSet[Window]
    attempts: Mapping[Window, Attempt]


@dataclass(frozen=True)
class Plan:
    """What to ask for now, the oldest first; what is missing and waits; and what no stream can give any more."""

    ask: tuple[Window, ...]
    waiting: tuple[Window, ...]
    lost: tuple[Window, ...]


def plan(first: datetime, now: datetime, known: Known, *, settle: timedelta, look_back: timedelta, most: int) -> Plan:
    """Of the hours since `first` that have settled: at most `most` under way because they were asked for; those that
    failed last, after a pause. `look_back`: how long hosts keep events; zero: nothing is asked for, nothing is lost."""
    missing = [window for window in settled(first, now, settle + _GRACE) if window not in known.whole | known.under_way]
    if not look_back:
        return Plan((), tuple(missing), ())
    lost = [window for window in missing if window.start < now - look_back]
    within = missing[len(lost) :]
    due = [window for window in within if window not in known.attempts or known.attempts[window].next_at <= now]
    # Those that failed before wait for the others, so that a few that always fail hold up none.
    due.sort(key=lambda window: (window in known.attempts, window))
    room = most - sum(window in known.attempts for window in known.under_way)
    asked = set(due[: max(room, 0)])
    return Plan(tuple(sorted(asked)), tuple(window for window in within if window not in asked), tuple(lost))


def settled(first: datetime, now: datetime, settle: timedelta) -> list[Window]:
    """The hours from `first` on that ended at least `settle` ago, oldest first."""
    end = Window.hour(now - settle).start
    return list(hours(first, end)) if first < end else []
