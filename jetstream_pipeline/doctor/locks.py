"""Who holds the locks, and which windows are under way since when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, warning
from jetstream_pipeline.doctor.holders import holders, is_told
from jetstream_pipeline.doctor.words import span
from jetstream_pipeline.storage.left_over import window_locks

_LONG_SEC = 3600.0
"""A window that takes as long as it lasts will not catch up."""
_MOMENT_SEC = 60.0
"""What holds the warehouse or a queue does so for a moment."""


def examine_locks(case: Case) -> Iterator[Finding]:
    if not is_told():
        yield ok("this system does not tell who holds locks")
        return
    data = case.data
    windows = window_locks(data)
    shared = {data.root / ".warehouse.lock": "the warehouse's views"}
    shared |= {path: f"the queue {path.stem}" for path in sorted(data.queues.glob("*.lock"))}
    shared |= {path: f"the order of windows of {path.parent.name}" for path in data.staging.glob("*/settling.lock")}
    held = holders([*windows, *shared])
    for path, holder in held.items():
        figures: dict[str, int | float | str] = {"pid": holder.pid, "seconds": round(holder.seconds)}
        time = span(timedelta(seconds=holder.seconds))
        if path in windows:
            stream, window = windows[path]
            text = f"{stream} {window} is under way in {holder}, for {time}"
            if holder.seconds > _LONG_SEC:
                text = f"{text}; see its log, or end it: the next run goes on from where it is"
            figures |= {"stream": stream, "window": window.key}
            yield (warning if holder.seconds > _LONG_SEC else ok)(text, **figures)
        elif holder.seconds > _MOMENT_SEC:
            yield warning(f"{holder} holds {shared[path]} for up to {time}; where others wait, end it", **figures)
        else:
            yield ok(f"{holder} holds {shared[path]}", **figures)
    if not held:
        yield ok("nobody holds a lock")
