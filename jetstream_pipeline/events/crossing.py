"""Where a stream passes a moment, seen in the events themselves.

Times nearly grow along a stream, but single ones lie: imported by an operator, or witnessed by a clock that was wrong.
One event alone therefore shows nothing. Where the passage lies depends on the events around it and on nothing else,
so that two windows that meet there agree, wherever they began to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

_MAJORITY = 3
"""Of five."""
_MAX_HELD = 4096
"""Events after which a passage is taken for one, however few commits they are of."""


Commit = tuple[str, str | int]


class Crossing(NamedTuple):
    before: int
    """So many events, from the first one on, lie before the moment."""
    passed: bool
    """Whether the event after them is the first one past it. Where it is not, what follows is undecided yet."""


def crossing(events: pa.RecordBatch, moment_us: int, *, final: bool = False) -> Crossing:
    """Find the first event at or after `moment_us` (unix microseconds) that the next commits agree with.

    Of the five next commits three decide. Where there are too few, the rest is undecided: ask again with more events
    behind it, or `final`, which lets those decide that are there.
    """
    late = pc.greater_equal(events["time_us"], moment_us)
    first = pc.index(late, True).as_py()
    if first < 0:
        return Crossing(events.num_rows, False)
    commits = commits_of(events.slice(first))
    votes = late.slice(first).to_pylist()
    refuted: set[Commit] = set()
    for candidate, (commit, is_late) in enumerate(zip(commits, votes, strict=True)):
        if not is_late or commit in refuted:
            continue
        agreed = _agreed(commits, votes, candidate, final)
        if agreed is None:
            return Crossing(first + candidate, False)
        if agreed:
            return Crossing(first + candidate, True)
        refuted.add(commit)
    return Crossing(events.num_rows, False)


def _agreed(commits: Sequence[Commit], late: Sequence[bool], candidate: int, final: bool) -> bool | None:
    """Whether the commits after the candidate lie past the moment too; None where too few have come."""
    own = last = commits[candidate]
    votes = {True: 0, False: 0}
    end = candidate + _MAX_HELD
    for commit, vote in zip(commits[candidate + 1 : end], late[candidate + 1 : end], strict=True):
        if commit in (own, last):
            continue
        last = commit
        votes[vote] += 1
        if votes[vote] == _MAJORITY:
            return vote
    if final or len(commits) >= end:
        return votes[True] >= votes[False]
    return None


def commits_of(events: pa.RecordBatch) -> list[Commit]:
    """The commit of each event, an account's change being one too: its operations share a time, right or wrong."""
    columns = (events[name].to_pylist() for name in ("did", "rev", "time_us"))
    return [(did, rev or time_us) for did, rev, time_us in zip(*columns, strict=True)]
