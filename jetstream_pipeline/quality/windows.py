"""The summaries of the windows around one, for those who compare. What cannot be read counts as not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.days import summary_of
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.window import Window

_DAYS = 7
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Windows:
    """A stream's whole windows."""

    stream: str
    lake: Lake

    def at(self, window: Window) -> WindowSummary | None:
        """What a window's file says; None where there is none, or none that is this window's."""
        try:
            summary = summary_of(self.lake, self.stream, window)
        except StorageError:
            return None
        is_its_own = (summary.stream, summary.start, summary.end) == (self.stream, window.start, window.end)
        return summary if is_its_own and summary.state.is_whole else None

    def before(self, window: Window) -> WindowSummary | None:
        """The window that ends where this one starts."""
        return self._shifted(window, window.start - window.end)

    def after(self, window: Window) -> WindowSummary | None:
        """The window that starts where this one ends."""
        return self._shifted(window, window.end - window.start)

    def same_hour(self, window: Window, days: int = _DAYS) -> Iterator[WindowSummary]:
        """The same hour of so many days before, the latest first; days that lack it are left out."""
        for day in range(1, days + 1):
            summary = self._shifted(window, -day * _DAY)
            if summary:
                yield summary

    def newest(self) -> WindowSummary | None:
        """The latest window that stands."""
        for path in self.lake.windows(self.stream):
            try:
                window = hour_of(path)
            except InvalidInput:
                continue
            if summary := self.at(window):
                return summary
        return None

    def _shifted(self, window: Window, shift: timedelta) -> WindowSummary | None:
        return self.at(Window(window.start + shift, window.end + shift))
