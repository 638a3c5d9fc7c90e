"""Where a stream passes a moment, seen in the events themselves.

Times nearly grow along a stream, but single ones lie: imported by an operator, or witnessed by a clock that was wrong.
One event alone therefore shows nothing. Where the passage lies depends on the events around it and on nothing else,
so that two windows that meet there agree, wherever they began to read.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

_MAJORITY = 3
"""Of five."""
_LOOKED_AT = 64
"""Events at once: mostly the first few decide."""
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
    refuted: set[Commit] = set()
    candidate = 0
    while (ahead := pc.index(late.slice(candidate), True).as_py()) >= 0:
        candidate += ahead
        (commit,) = commits_of(events.slice(candidate, 1))
        if commit not in refuted:
            agreed = _agreed(commit, events.slice(candidate + 1, _MAX_HELD - 1), late.slice(candidate + 1), final)
            if agreed is not False:
                return Crossing(candidate, agreed is True)
            refuted.add(commit)
        candidate += 1
    return Crossing(events.num_rows, False)


def _agreed(own: Commit, following: pa.RecordBatch, late: pa.BooleanArray, final: bool) -> bool | None:
    """Whether the commits after the candidate lie past the moment too; None where too few have come."""
    last = own
    votes = {True: 0, False: 0}
    for start in range(0, following.num_rows, _LOOKED_AT):
        commits = commits_of(following.slice(start, _LOOKED_AT))
        for commit, vote in zip(commits, late.slice(start, len(commits)).to_pylist(), strict=True):
            if commit in (own, last):
                continue
            last = commit
            votes[vote] += 1
            if votes[vote] == _MAJORITY:
                return vote
    if final or following.num_rows == _MAX_HELD - 1:
        return votes[True] >= votes[False]
    return None


def commits_of(events: pa.RecordBatch) -> list[Commit]:
    """The commit of each event, an account's change being one too: its operations share a time, right or wrong."""
    columns = (events[name].to_pylist() for name in ("did", "rev", "time_us"))
    return [(did, rev or time_us) for did, rev, time_us in zip(*columns, strict=True)]
