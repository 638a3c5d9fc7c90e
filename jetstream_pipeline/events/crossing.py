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
_MAX_HELD = 4096
"""Events after which a passage is taken for one, however few commits they are of."""


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
    start = 0
    while (found := pc.index(late.slice(start), True).as_py()) >= 0:
        candidate = start + found
        agreed = _agreed(events, late, candidate, final)
        if agreed is None:
            return Crossing(candidate, False)
        if agreed:
            return Crossing(candidate, True)
        start = candidate + 1
    return Crossing(events.num_rows, False)


def _agreed(events: pa.RecordBatch, late: pa.Array, candidate: int, final: bool) -> bool | None:
    """Whether the commits after the candidate lie past the moment too; None where too few have come."""
    own = last = _commit(events, candidate)
    votes = {True: 0, False: 0}
    for index in range(candidate + 1, events.num_rows):
        commit = _commit(events, index)
        if commit in (own, last):
            continue
        last = commit
        vote = late[index].as_py()
        votes[vote] += 1
        if votes[vote] == _MAJORITY:
            return vote
    if final or events.num_rows - candidate > _MAX_HELD:
        return votes[True] >= votes[False]
    return None


def _commit(events: pa.RecordBatch, index: int) -> tuple[str, str | int]:
    """The operations of one commit share its time, right or wrong: they have one vote."""
    return events["did"][index].as_py(), events["rev"][index].as_py() or events["time_us"][index].as_py()
