"""The lake: where each window's Parquet file lies. What its metadata says is `summary`'s, writing it `window_file`'s.

<root>/<stream>/stream.json                                         the filter that the stream's windows have
<root>/<stream>/horizon.json                                        from where on it is kept; see `horizon`
<root>/<stream>/events/date=YYYY-MM-DD/hour=HH/events.parquet       complete and verified windows
<root>/<stream>/incomplete/date=YYYY-MM-DD/hour=HH/events.parquet   what a host gave of the others
<root>/<stream>/<table>/date=YYYY-MM-DD/hour=HH/<table>.parquet     derived from `events`
<root>/<stream>/days/date=YYYY-MM-DD.json                           that a day's windows are in one file; see `days`
<root>/<stream>/archive/segment=<name>/events.parquet               what a host's archive holds, segment by segment
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.files import Found, exists, folders, found, holds
from jetstream_pipeline.storage.hive import ANY_HOUR, hour_folder, hour_of, hours_of, is_of_an_hour
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.window import Window

EVENTS = "events"
INCOMPLETE = "incomplete"
ARCHIVE = "archive"
ANY_SEGMENT = "segment=*"
DAYS = "days"
ANY_DAY = "date=*"
ANY_MARK = f"{ANY_DAY}.json"

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}\Z")
_SEGMENT = re.compile(r"^[A-Za-z0-9_]{1,64}\Z")


def check_name(name: str, what: str = "stream") -> str:
    """A stream's or table's name as it may stand in paths and SQL; InvalidInput otherwise."""
    if not _NAME.match(name):
        raise InvalidInput(
            f"{name!r} cannot name a {what}: use a lower-case letter, then letters, digits and _ (63 at most)"
        )
    return name


@dataclass(frozen=True)
class Mark:
    """What says that a day's files count, and when it was put there, in unix nanoseconds."""

    day: date
    path: AnyPath
    moment_ns: int


class Lake:
    """The Parquet files below one root: a directory, or a prefix in an object store."""

    def __init__(self, root: AnyPath) -> None:
        self.root = root

    def events_path(self, stream: str, window: Window) -> AnyPath:
        return self._path(stream, EVENTS, window, EVENTS)

    def incomplete_path(self, stream: str, window: Window) -> AnyPath:
        return self._path(stream, INCOMPLETE, window, EVENTS)

    def table_path(self, stream: str, table: str, window: Window) -> AnyPath:
        return self._path(stream, check_name(table, "table"), window, table)

    def segment_path(self, stream: str, segment: str) -> AnyPath:
        """The file of a segment, which is named as on its host, but for `.jss`."""
        if not _SEGMENT.match(segment):
            raise InvalidInput(f"{segment!r} cannot name a segment; write seg_0000000000")
        return self.root / check_name(stream) / ARCHIVE / f"segment={segment}" / f"{EVENTS}.parquet"

    def segments(self, stream: str) -> Iterator[AnyPath]:
        """The files of the segments of a stream, by name."""
        for file in found(self.root / check_name(stream) / ARCHIVE, f"{ANY_SEGMENT}/{EVENTS}.parquet"):
            yield file.path

    def has_segments(self, stream: str) -> bool:
        return holds(self.root / check_name(stream) / ARCHIVE, f"{ANY_SEGMENT}/{EVENTS}.parquet")

    def _path(self, stream: str, folder: str, window: Window, name: str) -> AnyPath:
        if not window.is_hour:
            raise InvalidInput(f"the lake holds whole hours; {window} is not one")
        return self.root / check_name(stream) / folder / hour_folder(window.start) / f"{name}.parquet"

    def stream_path(self, stream: str) -> AnyPath:
        """What is said of a stream as a whole."""
        return self.root / check_name(stream) / "stream.json"

    def horizon_path(self, stream: str) -> AnyPath:
        """From where on the stream is kept."""
        return self.root / check_name(stream) / "horizon.json"

    def hour_path(self, stream: str, dataset: str, window: Window) -> AnyPath:
        return self._path(stream, dataset, window, EVENTS if dataset == INCOMPLETE else dataset)

    def day_path(self, stream: str, dataset: str, day: date) -> AnyPath:
        """The file of a day's 24 windows; see `days`."""
        return self.root / check_name(stream) / dataset / f"date={day}" / f"{dataset}.parquet"

    def mark_path(self, stream: str, day: date) -> AnyPath:
        """Where it is said that a day's files count."""
        return self.root / check_name(stream) / DAYS / f"date={day}.json"

    def marks(self, stream: str) -> list[Mark]:
        """The days whose files count, oldest first."""
        files = ((day_of(file.path.stem), file) for file in found(self.root / check_name(stream) / DAYS, ANY_MARK))
        return [Mark(day, file.path, file.moment_ns) for day, file in files if day]

    def marked(self, stream: str) -> set[date]:
        return {mark.day for mark in self.marks(stream)}

    def day_files(self, stream: str, dataset: str) -> list[date]:
        """The days of which a data set has one file, whether that counts or not."""
        return [day for file in self.listed_days(stream, dataset) if (day := day_of(file.path.parent.name))]

    def listed_days(self, stream: str, dataset: str) -> Iterator[Found]:
        """The same with what a listing says of them, oldest first."""
        files = found(self.root / check_name(stream) / dataset, f"{ANY_DAY}/{dataset}.parquet")
        return (file for file in files if day_of(file.path.parent.name))

    def day_datasets(self, stream: str) -> list[str]:
        """The data sets that have any such file."""
        inside = folders(self.root / check_name(stream))
        return [folder.name for folder in inside if holds(folder, f"{ANY_DAY}/{folder.name}.parquet")]

    def is_of_a_day(self, stream: str, window: Window) -> bool:
        """Whether a whole window is in the file of its day."""
        day = window.start.date()
        return exists(self.mark_path(stream, day)) and exists(self.day_path(stream, EVENTS, day))

    def has(self, stream: str, window: Window) -> bool:
        """Whether a window is whole: what is new is known by its name before a store lists it."""
        return exists(self.events_path(stream, window)) or self.is_of_a_day(stream, window)

    def windows(self, stream: str) -> Iterator[AnyPath]:
        """The files of the whole windows of a stream that are not in the files of days, the newest first."""
        folder = self.root / check_name(stream) / EVENTS
        if not isinstance(folder, Path):
            yield from reversed([window.path for window in self.listed(stream)])
            return
        for day in sorted(folder.glob("date=*"), reverse=True):
            yield from sorted(filter(is_of_an_hour, day.glob(f"hour=*/{EVENTS}.parquet")), reverse=True)

    def listed(self, stream: str, dataset: str = EVENTS) -> Iterator[Found]:
        """The files of a data set's windows, as of the whole ones, that are not in the files of days, with what a
        listing says of them, the oldest first."""
        name = EVENTS if dataset == INCOMPLETE else dataset
        files = found(self.root / check_name(stream) / dataset, f"{ANY_HOUR}/{name}.parquet")
        return (file for file in files if is_of_an_hour(file.path))

    def incomplete(self, stream: str) -> Iterator[Found]:
        """The files of the windows of a stream that are not whole, or that a whole one has superseded; oldest first."""
        files = found(self.root / check_name(stream) / INCOMPLETE, f"{ANY_HOUR}/{EVENTS}.parquet")
        return (file for file in files if is_of_an_hour(file.path))

    def whole(self, stream: str) -> set[Window]:
        """The windows that are whole, as far as they are listed; see `has`."""
        of_days = self.marked(stream).intersection(self.day_files(stream, EVENTS))
        return {hour_of(path) for path in self.windows(stream)} | {one for day in of_days for one in hours_of(day)}

    def oldest_hour(self, stream: str) -> datetime | None:
        """The start of the oldest window, whole or not."""
        root = self.root / check_name(stream)
        days = [day for name in (EVENTS, INCOMPLETE) for day in folders(root / name) if day.name.startswith("date=")]
        for _, same in itertools.groupby(sorted(days, key=_day), _day):
            paths = (file.path for day in same for file in found(day, f"hour=*/{EVENTS}.parquet"))
            if starts := [hour_of(path).start for path in filter(is_of_an_hour, paths)]:
                return min([*starts, *self._of_days(stream)])
        return min(self._of_days(stream), default=None)

    def _of_days(self, stream: str) -> list[datetime]:
        return [hours_of(day)[0].start for day in self.marked(stream)]

    def streams(self) -> list[str]:
        return [folder.name for folder in folders(self.root) if _NAME.match(folder.name)]

    def datasets(self, stream: str) -> list[str]:
        """The folders of a stream that hold at least one window's own file: `events`, `incomplete` and tables."""
        inside = folders(self.root / check_name(stream))
        named = {folder: EVENTS if folder.name == INCOMPLETE else folder.name for folder in inside}
        return [folder.name for folder, name in named.items() if holds(folder, f"{ANY_HOUR}/{name}.parquet")]


def day_of(name: str) -> date | None:
    """The day that a folder or a file is named after; None where it is none of ours."""
    try:
        return date.fromisoformat(name.removeprefix("date="))
    except ValueError:
        return None


def _day(folder: AnyPath) -> str:
    return folder.name
