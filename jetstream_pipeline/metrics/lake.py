"""The figures of the lake and the queues as they are now, from what the files say of themselves. How they are told is
`families`'."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jetstream_pipeline.metrics.kept import Kept
from jetstream_pipeline.storage.days import read_hours
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import folders, found
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.lake import EVENTS, day_of
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.left_over import staged_folders
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.quarantine import FILES
from jetstream_pipeline.storage.quarantine import count as messages_in
from jetstream_pipeline.storage.queue.items import QueueStats
from jetstream_pipeline.storage.queue.queue import Queue, queues
from jetstream_pipeline.storage.summary import SUMMARY_KEY, WindowState, WindowSummary, parse_summary, read_summary
from jetstream_pipeline.streams.lacking import lacking
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

_HOUR = timedelta(hours=1)
_PATIENCE_SEC = 0.5
"""A scrape does not wait long for whoever holds a queue."""


@dataclass(frozen=True)
class WindowFigures:
    """What is kept of a window: some numbers, not its thousand collections."""

    state: WindowState
    events: int
    seconds: float
    quarantined: int
    end: datetime

    @classmethod
    def of(cls, path: AnyPath) -> WindowFigures:
        return cls.said(read_summary(path))

    @classmethod
    def of_day(cls, path: AnyPath) -> list[WindowFigures]:
        """Of each of a day's windows, where those are one file."""
        hours = read_hours(path).values()
        return [cls.said(parse_summary(hour.metadata.get(SUMMARY_KEY.decode(), ""), path)) for hour in hours]

    @classmethod
    def said(cls, summary: WindowSummary) -> WindowFigures:
        return cls(summary.state, summary.events, summary.seconds, summary.quarantined, summary.end)


@dataclass
class StreamFigures:
    """A stream as it stands. `missing` and `lost` are None where nothing says which windows are to be there."""

    windows: Counter[WindowState] = field(default_factory=Counter)
    unreadable: int = 0
    events: int = 0
    bytes: int = 0
    newest: WindowFigures | None = None
    newest_bytes: int = 0
    missing: int | None = None
    lost: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment. A queue's figures are None where it could not be read."""

    streams: dict[str, StreamFigures]
    quarantined: dict[str, int]
    queues: dict[str, QueueStats | None]
    staged: int
    free_bytes: int
    size_bytes: int


class LakeReadings:
    """Reads a data directory again and again: what a window says is read once, and again when it was replaced."""

    def __init__(self, data: DataDirectory, streams: Sequence[Stream] = ()) -> None:
        """`streams`: the declared ones, of which it is known which windows are to be there."""
        self._data = data
        self._streams = {stream.name: stream for stream in streams}
        self._days: dict[str, Kept[list[WindowFigures]]] = {}
        self._whole: dict[str, Kept[WindowFigures]] = {}
        self._incomplete: dict[str, Kept[WindowFigures]] = {}
        self._quarantine: dict[str, Kept[int]] = {}
        self._queues: dict[str, Queue] = {}

    def read(self) -> Snapshot:
        names = dict.fromkeys([*self._streams, *self._data.lake.streams()])
        room = shutil.disk_usage(_existing(self._data.root))
        return Snapshot(
            streams={name: self._stream(name) for name in names},
            quarantined={folder.name: self._messages(folder) for folder in folders(self._data.quarantine)},
            queues={name: self._queue(name) for name in self._queue_names()},
            staged=sum(1 for _ in staged_folders(self._data)),
            free_bytes=room.free,
            size_bytes=room.total,
        )

    def _stream(self, name: str) -> StreamFigures:
        figures, lake = StreamFigures(), self._data.lake
        whole = set()
        marked = lake.marked(name)
        days = (file for file in lake.listed_days(name, EVENTS) if day_of(file.path.parent.name) in marked)
        for file, windows in self._days.setdefault(name, Kept(WindowFigures.of_day)).of(days if marked else ()):
            figures.unreadable += windows is None
            figures.bytes += file.size if windows else 0
            for one in windows or ():
                whole.add(Window.hour(one.end - _HOUR))
                figures.windows[one.state] += 1
                figures.events += one.events
        hours = (file for file in lake.listed(name) if hour_of(file.path).start.date() not in marked)
        for file, window in self._whole.setdefault(name, Kept(WindowFigures.of)).of(hours):
            whole.add(hour_of(file.path))
            if window is None:
                figures.unreadable += 1
                continue
            figures.newest, figures.newest_bytes = window, file.size
            figures.windows[window.state] += 1
            figures.events += window.events
            figures.bytes += file.size
        # Beside a whole window lies what a host once gave of it, without its rows.
        left = (file for file in lake.incomplete(name) if hour_of(file.path) not in whole)
        for _, window in self._incomplete.setdefault(name, Kept(WindowFigures.of)).of(left):
            if window is None:
                figures.unreadable += 1
            else:
                figures.windows[window.state] += 1
        if stream := self._streams.get(name):
            lacks = lacking(stream, set(), datetime.now(UTC))
            figures.missing, figures.lost = len(lacks.waiting), len(lacks.lost)
        return figures

    def _messages(self, folder: AnyPath) -> int:
        kept = self._quarantine.setdefault(folder.name, Kept(messages_in))
        return sum(number or 0 for _, number in kept.of(found(folder, FILES)))

    def _queue_names(self) -> list[str]:
        """Those known before where their database is away."""
        try:
            return queues(self._data.root, _PATIENCE_SEC)
        except StorageError:
            return list(self._queues)

    def _queue(self, name: str) -> QueueStats | None:
        try:
            if name not in self._queues:
                self._queues[name] = Queue(name, data_dir=self._data.root, patience=_PATIENCE_SEC)
            return self._queues[name].stats()
        except StorageError:
            return None


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
