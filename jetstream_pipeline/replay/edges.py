"""Which events of a stream belong to a window, and what shows that none is missing at its edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected
from jetstream_pipeline.storage.lake import WindowState
from jetstream_pipeline.window import Window


class Edges:
    """Cuts a window out of a stream, in stream order, batch by batch.

    The window begins with the first event at or after its start and ends before the first one at or after its end; an
    event between them belongs to it whatever its own time says.
    """

    def __init__(self, window: Window, *, sparse: bool = False) -> None:
        """`sparse`: the filter lets so little through that a long silence shows nothing."""
        self._window = window
        self._sparse = sparse
        self._seen_before = False
        self._begun = False
        self.passed = False
        """Whether the stream has been seen to reach the window's end."""

    def cut(self, events: pa.RecordBatch, rejected: Sequence[Rejected] = ()) -> tuple[pa.RecordBatch, list[Rejected]]:
        """The part of a batch that lies in the window. A message that is no event lies where the event before it does.

        A message's `after` counts the events of the part before it.
        """
        if self.passed:
            return events.slice(0, 0), []
        times = events["time_us"]
        begun_before = self._begun
        start = 0
        if not self._begun:
            start = _first_at_or_after(times, self._window.start_us)
            self._begun = start < len(times)
            self._seen_before = self._seen_before or start > 0
        length = _first_at_or_after(times[start:], self._window.end_us)
        self.passed = start + length < len(times)
        inside = [
            replace(message, after=message.after - start)
            for message in rejected
            if start < message.after <= start + length or (message.after == 0 and begun_before)
        ]
        return events.slice(start, length), inside

    def verdict(self) -> tuple[WindowState, str]:
        """The window's state and, in words, what shows it."""
        if not self.passed:
            return WindowState.UNPROVEN, "the stream fell silent before it passed the window's end"
        if not self._seen_before and self._sparse:
            return WindowState.UNPROVEN, "the filter let no event from just before the window's start through"
        if not self._seen_before:
            return WindowState.TRUNCATED, "the host's first event lies after the window's start"
        return WindowState.COMPLETE, "the host had events before the window's start, and the stream passed its end"


def _first_at_or_after(times: pa.Array, moment_us: int) -> int:
    index = pc.index(pc.greater_equal(times, moment_us), True).as_py()
    return len(times) if index < 0 else index
