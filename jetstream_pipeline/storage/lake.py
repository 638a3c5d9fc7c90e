"""The lake: where each window's Parquet file lies. What its metadata says is `summary`'s, writing it `window_file`'s.

<root>/<stream>/stream.json                                         the filter that the stream's windows have
<root>/<stream>/events/date=YYYY-MM-DD/hour=HH/events.parquet       complete and verified windows
<root>/<stream>/incomplete/date=YYYY-MM-DD/hour=HH/events.parquet   what a host gave of the others
<root>/<stream>/<table>/date=YYYY-MM-DD/hour=HH/<table>.parquet     derived from `events`
<root>/<stream>/archive/segment=<name>/events.parquet               what a host's archive holds, segment by segment
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.hive import ANY_HOUR, hour_folder, hour_of, is_of_an_hour
from jetstream_pipeline.window import Window

EVENTS = "events"
INCOMPLETE = "incomplete"
ARCHIVE = "archive"
ANY_SEGMENT = "segment=*"

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}\Z")
_SEGMENT = re.compile(r"^[A-Za-z0-9_]{1,64}\Z")


def check_name(name: str, what: str = "stream") -> str:
    """A stream's or table's name as it may stand in paths and SQL; InvalidInput otherwise."""
    if not _NAME.match(name):
        raise InvalidInput(
            f"{name!r} cannot name a {what}: use a lower-case letter, then letters, digits and _ (63 at most)"
        )
    return name


class Lake:
    """The Parquet files below one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def events_path(self, stream: str, window: Window) -> Path:
        return self._path(stream, EVENTS, window, EVENTS)

    def incomplete_path(self, stream: str, window: Window) -> Path:
        return self._path(stream, INCOMPLETE, window, EVENTS)

    def table_path(self, stream: str, table: str, window: Window) -> Path:
        return self._path(stream, check_name(table, "table"), window, table)

    def segment_path(self, stream: str, segment: str) -> Path:
        """The file of a segment, which is named as on its host, but for `.jss`."""
        if not _SEGMENT.match(segment):
            raise InvalidInput(f"{segment!r} cannot name a segment; write seg_0000000000")
        return self.root / check_name(stream) / ARCHIVE / f"segment={segment}" / f"{EVENTS}.parquet"

    def segments(self, stream: str) -> Iterator[Path]:
        """The files of the segments of a stream, by name."""
        yield from sorted((self.root / check_name(stream) / ARCHIVE).glob(f"{ANY_SEGMENT}/{EVENTS}.parquet"))

    def _path(self, stream: str, folder: str, window: Window, name: str) -> Path:
        if not window.is_hour:
            raise InvalidInput(f"the lake holds whole hours; {window} is not one")
        return self.root / check_name(stream) / folder / hour_folder(window.start) / f"{name}.parquet"

    def stream_path(self, stream: str) -> Path:
        """What is said of a stream as a whole."""
        return self.root / check_name(stream) / "stream.json"

    def windows(self, stream: str) -> Iterator[Path]:
        """The files of the whole windows of a stream, the newest first."""
        days = sorted((self.root / check_name(stream) / EVENTS).glob("date=*"), reverse=True)
        for day in days:
            yield from sorted(filter(is_of_an_hour, day.glob(f"hour=*/{EVENTS}.parquet")), reverse=True)

    def whole(self, stream: str) -> set[Window]:
        """The windows that are whole."""
        return {hour_of(path) for path in self.windows(stream)}

    def oldest_hour(self, stream: str) -> datetime | None:
        """The start of the oldest window, whole or not."""
        root = self.root / check_name(stream)
        days = sorted((path for name in (EVENTS, INCOMPLETE) for path in (root / name).glob("date=*")), key=_day)
        for _, folders in itertools.groupby(days, _day):
            paths = (path for folder in folders for path in folder.glob(f"hour=*/{EVENTS}.parquet"))
            if starts := [hour_of(path).start for path in filter(is_of_an_hour, paths)]:
                return min(starts)
        return None

    def streams(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir() and _NAME.match(entry.name))

    def datasets(self, stream: str) -> list[str]:
        """The folders of a stream that hold at least one window: `events`, `incomplete` and tables."""
        found = []
        for folder in sorted((self.root / check_name(stream)).iterdir()):
            name = EVENTS if folder.name == INCOMPLETE else folder.name
            if folder.is_dir() and next(folder.glob(f"{ANY_HOUR}/{name}.parquet"), None):
                found.append(folder.name)
        return found


def _day(folder: Path) -> str:
    return folder.name
