"""Whether the newest window is the one that should be there by now. The clock's reading is given."""

from __future__ import annotations

from datetime import datetime, timedelta

from jetstream_pipeline.quality.finding import Finding
from jetstream_pipeline.window import Window

_GRACE = timedelta(minutes=30)
"""What a replay, its retries and the queue before it may take."""
_HOUR = timedelta(hours=1)


def freshness(newest_end: datetime | None, now: datetime, settle: timedelta) -> Finding:
    """Passes where no hour is lacking that ended longer ago than `settle` and half an hour.

    `newest_end` is the end of the newest whole window, None where there is none.
    """
    due = Window.hour(now - settle - _GRACE).start
    if newest_end is None:
        return Finding(False, f"no whole window stands in the lake; one that ends at {_told(due)} should")
    behind = max(0, (due - newest_end) // _HOUR)
    if not behind:
        return Finding(True, f"the newest window ends at {_told(newest_end)}, as it should", {"hours_behind": 0})
    hours = "1 hour" if behind == 1 else f"{behind:,} hours"
    text = (
        f"{hours} behind: the newest window ends at {_told(newest_end)}, and one that ends at {_told(due)} should stand"
    )
    return Finding(False, text, {"hours_behind": behind})


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
