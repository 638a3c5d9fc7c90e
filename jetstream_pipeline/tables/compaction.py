"""Making days of a stream's windows: which days, in which order of steps, and what is left behind of them. A day's
files are `storage.days`'."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage import days
from jetstream_pipeline.storage.errors import WindowBusy
from jetstream_pipeline.storage.event_layout import WRITING
from jetstream_pipeline.storage.files import Found, Version, delete, exists, holds, size, version
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.lake import EVENTS
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.settling import settling
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.tables.file import writing

KEEP = timedelta(hours=1)
"""How long hours' files stay for queries that had listed them."""
_HOURS = 24
_AT_ONCE = 16
"""Days that are held, and waited for, together."""

Hours = Mapping[str, Sequence[Found]]
"""A day's files, in order, of each data set that has any."""


@dataclass(frozen=True)
class Compacted:
    """A day, and what became of it."""

    stream: str
    day: date
    files: int
    """Of hours that the day's files stand for."""
    bytes_before: int
    bytes: int
    kept: str | None
    """Why it stays as it is; None where it is one file for each data set now."""


@dataclass(frozen=True)
class Compaction:
    """One stream's days."""

    data: DataDirectory
    stream: str

    def run(self, before: date, *, keep: timedelta = KEEP) -> Iterator[Compacted]:
        """Make one file for each data set of the days before `before` that are whole, oldest first; told day by day.

        The stream's newest day stays as it is, and a day that somebody works on, until the next time. Hours' files of
        days that were made longer ago than `keep` are removed. A day that fails keeps none of the others.
        """
        # In a store, tables in a catalogue may show what is made days now until they are told of it.
        is_store = not isinstance(self.data.lake.root, Path)
        if is_store:
            self._sweep(keep)
        due = self._due(before)
        for start in range(0, len(due), _AT_ONCE):
            yield from self._compact(due[start : start + _AT_ONCE])
        if not is_store:
            self._sweep(keep)

    def due(self, before: date) -> list[date]:
        """The days that `run` would make."""
        return [day for day, _ in self._due(before)]

    def expand(self, before: date) -> Iterator[date]:
        """Make the days before `before` hours again. Views that were made before want renewing then."""
        for day in sorted(self.data.lake.marked(self.stream)):
            if day < before and days.expand(self.data, self.stream, day):
                yield day
        if isinstance(self.data.lake.root, Path):
            self._sweep(KEEP)

    def _due(self, before: date) -> list[tuple[date, Hours]]:
        by_day = self._by_day()
        newest = max((day for day, hours in by_day.items() if EVENTS in hours), default=before)
        marked = self.data.lake.marked(self.stream)
        return [
            (day, hours)
            for day, hours in sorted(by_day.items())
            if day < min(before, newest) and day not in marked and EVENTS in hours
            # A table that lacks an hour is still being derived, or has just been begun.
            if all(len(files) == _HOURS for files in hours.values())
        ]

    def _by_day(self) -> dict[date, dict[str, list[Found]]]:
        by_day: dict[date, dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
        for name in (EVENTS, *(table.name for table in TABLES)):
            for file in self.data.lake.listed(self.stream, name):
                by_day[hour_of(file.path).start.date()][name].append(file)
        return by_day

    def _compact(self, due: Sequence[tuple[date, Hours]]) -> Iterator[Compacted]:
        written: list[tuple[date, Hours, dict[AnyPath, Version | None]]] = []
        with ExitStack() as stack:
            for day, hours in due:
                try:
                    busy = WindowBusy("a run is at one of its windows")
                    stack.enter_context(days.alone(self.data, self.stream, day, busy))
                    written.append((day, hours, self._write(day, hours)))
                except PipelineError as error:
                    yield self._told(day, hours, str(error))
            if written:
                time.sleep(days.SEEN_SEC)
            for day, hours, found in written:
                try:
                    yield self._told(day, hours, self._marked(day, hours, found))
                except PipelineError as error:
                    yield self._told(day, hours, str(error))

    def _write(self, day: date, hours: Hours) -> dict[AnyPath, Version | None]:
        """Write a day's files, which do not count yet; the versions of the hours' that they were made of."""
        found = {file.path: version(file.path) for files in hours.values() for file in files}
        told = {table.name: table for table in TABLES}
        for name, files in hours.items():
            sources = [(hour_of(file.path).start.hour, file.path) for file in files]
            options = writing(told[name]) if name in told else {**WRITING, "write_page_checksum": True}
            days.write_day(sources, self.data.lake.day_path(self.stream, name, day), options)
        return found

    def _marked(self, day: date, hours: Hours, found: Mapping[AnyPath, Version | None]) -> str | None:
        """Why a day's files do not count; None where they do from now on. Other machines do not see who holds a day."""
        lake = self.data.lake
        with settling(self.data, self.stream):
            if not all(exists(lake.day_path(self.stream, name, day)) for name in hours):
                return "its file was removed meanwhile"
            others = [table.name for table in TABLES if table.name not in hours]
            if any(holds(lake.root / self.stream / name / f"date={day}", f"hour=*/{name}.parquet") for name in others):
                return "a table of it was begun meanwhile"
            if any(version(path) != seen for path, seen in found.items()):
                return "one of its windows was replaced meanwhile"
            days.mark(self.data.lake, self.stream, day)
        return None

    def _told(self, day: date, hours: Hours, kept: str | None) -> Compacted:
        files = [file for some in hours.values() for file in some]
        lake = self.data.lake
        made = 0 if kept else sum(size(lake.day_path(self.stream, name, day)) for name in hours)
        return Compacted(self.stream, day, len(files), sum(file.size for file in files), made, kept)

    def _sweep(self, keep: timedelta) -> None:
        """Remove the files that do not count: hours' of days, and days' of runs that died."""
        lake, by_day = self.data.lake, self._by_day()
        newest = {name: max(day for day, hours in by_day.items() if name in hours) for name in _names(by_day)}
        marks = {mark.day: mark for mark in lake.marks(self.stream)}
        for name in lake.day_datasets(self.stream):
            for day in lake.day_files(self.stream, name):
                own = lake.day_path(self.stream, name, day)
                if day not in marks:
                    self._delete(day, [own], partial(self._is_of_hours, day))
                elif time.time_ns() - marks[day].moment_ns >= keep / timedelta(microseconds=1) * 1000:
                    # Views read hours by a pattern, which is to match something.
                    hours = by_day[day][name] if day in by_day and newest.get(name) != day else []
                    self._delete(day, [file.path for file in hours], partial(self._counts, day, own))
        for day, mark in marks.items():
            if self._has_no_files(day):
                self._delete(day, [mark.path], partial(self._has_no_files, day))

    def _counts(self, day: date, path: AnyPath) -> bool:
        """Whether a day's file does."""
        return exists(self.data.lake.mark_path(self.stream, day)) and exists(path)

    def _is_of_hours(self, day: date) -> bool:
        return not exists(self.data.lake.mark_path(self.stream, day))

    def _has_no_files(self, day: date) -> bool:
        lake = self.data.lake
        return not any(exists(lake.day_path(self.stream, name, day)) for name in lake.day_datasets(self.stream))

    def _delete(self, day: date, paths: Sequence[AnyPath], is_due: Callable[[], bool]) -> None:
        """Unless somebody works on the day, or has made it another one since it was looked at, on any machine."""
        if not paths:
            return
        try:
            busy = WindowBusy("at work")
            with days.alone(self.data, self.stream, day, busy) as lock, settling(self.data, self.stream):
                if is_due():
                    for path in paths:
                        delete(path)
                lock.remove()
        except WindowBusy:
            return


def _names(by_day: Mapping[date, Hours]) -> set[str]:
    return {name for hours in by_day.values() for name, files in hours.items() if files}
