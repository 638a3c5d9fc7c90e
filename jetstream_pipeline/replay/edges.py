"""Which events of a stream belong to a window, and what shows that none is missing at its edges."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.storage.lake import WindowState
from jetstream_pipeline.window import Window


class Edges:
    """Cuts a window out of a stream, in stream order, batch by batch.

    The window begins with the first event at or after its start and ends before the first one at or after its end; an
    event between them belongs to it whatever its own time says.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._first_seen_us: int | None = None
        self._begun = False
        self.passed = False
        """Whether the stream has been seen to reach the window's end."""

    def cut(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """The part of `events` that lies in the window."""
        if self.passed or events.num_rows == 0:
            return events.slice(0, 0)
        times = events["time_us"]
        if self._first_seen_us is None:
            self._first_seen_us = times[0].as_py()
        start = 0
        if not self._begun:
            start = _first_at_or_after(times, self._window.start_us)
            self._begun = start < len(times)
        length = _first_at_or_after(times[start:], self._window.end_us)
        self.passed = start + length < len(times)
        return events.slice(start, length)

    def verdict(self) -> tuple[WindowState, str]:
        """The window's state and, in words, what shows it."""
        if not self.passed:
            return WindowState.UNPROVEN, "the stream fell silent before it passed the window's end"
        assert self._first_seen_us is not None
        if self._first_seen_us >= self._window.start_us:
            return WindowState.TRUNCATED, "the host's first event lies after the window's start"
        return WindowState.COMPLETE, "the host had events before the window's start, and the stream passed its end"


def _first_at_or_after(times: pa.Array, moment_us: int) -> int:
    index = pc.index(pc.greater_equal(times, moment_us), True).as_py()
    return len(times) if index < 0 else index
