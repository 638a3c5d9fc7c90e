"""Deleting what is beyond a stream's limits: first it is said from where on the stream is kept, so that nobody replays
or misses what goes; then window by window, tables before the events that they follow from, each file in one step.

Who has a file open reads on. What another run is at, a queue has not had, or no copy is shown of, stays until the next
time. Segments of an archive are no windows, and are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.feeding.feeding import is_fed
from jetstream_pipeline.retention import held
from jetstream_pipeline.retention.backup import Backup
from jetstream_pipeline.retention.plan import Held, due, horizon
from jetstream_pipeline.retention.rules import Retention
from jetstream_pipeline.storage import quarantine
from jetstream_pipeline.storage.days import alone
from jetstream_pipeline.storage.errors import WindowBusy
from jetstream_pipeline.storage.files import Lock, delete, exists
from jetstream_pipeline.storage.hive import is_of_an_hour
from jetstream_pipeline.storage.horizon import Horizon, read_horizon, write_horizon
from jetstream_pipeline.storage.lake import EVENTS, INCOMPLETE
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.settling import settling
from jetstream_pipeline.storage.staging import at_window
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.tables.definitions import TABLES as _TABLES
from jetstream_pipeline.window import Window, hours

TABLES = "tables"


@dataclass(frozen=True)
class Pruned:
    """A window beyond a limit, and what became of it."""

    stream: str
    window: Window
    what: str
    """`events`, or `tables`."""
    bytes: int
    why: str
    """By which limit it is due."""
    kept: str | None
    """Why it stays nevertheless; None where it was deleted, or would be."""


@dataclass(frozen=True)
class Pruning:
    """One stream's limits, and what is asked before a window goes: `feeds` are the queues that must have had it.
    `leave`: is told of all files that are about to go; where it fails, none does."""

    data: DataDirectory
    stream: str
    retention: Retention
    feeds: Sequence[Feed] = ()
    leave: Callable[[Sequence[AnyPath]], None] | None = None

    def run(self, now: datetime, *, dry_run: bool = False) -> Iterator[Pruned]:
        """What is beyond the limits at `now`, oldest first; deleted as it is told, unless this is a `dry_run`.

        A window that cannot be deleted keeps none of the others. StorageError where nobody can tell what there is,
        InvalidInput where the copy's place cannot be one.
        """
        rules, backup = self.retention, self._backup()
        tables, events = held.tables(self.data, self.stream), held.events(self.data, self.stream)
        beyond = [
            (what, one)
            for what, standing, limit in ((TABLES, tables, rules.tables), (EVENTS, events, rules.events))
            for one in due(standing, limit, now)
        ]
        if not dry_run:
            self._say(horizon(events, rules.events, now), horizon(tables, rules.tables, now))
            if self.leave:
                going = [one.held for what, one in beyond if self._kept(what, one.held, backup) is None]
                self.leave([path for one in going for path in one.files])
        for what, one in beyond:
            kept = self._kept(what, one.held, backup) if dry_run else self._deleted(what, one.held, backup)
            yield Pruned(self.stream, one.held.window, what, one.held.bytes, one.why, kept)

    def _backup(self) -> Backup | None:
        place = self.retention.backed_up
        return Backup(place, self.data.lake.root) if place is not None else None

    def _say(self, events: datetime | None, tables: datetime | None) -> None:
        """What was deleted once was so on purpose, whatever the limits are now."""
        path = self.data.lake.horizon_path(self.stream)
        said = read_horizon(path)
        horizon = Horizon(events=_later(said.events, events), tables=_later(said.tables, tables))
        if horizon != said:
            write_horizon(path, horizon)

    def _deleted(self, what: str, one: Held, backup: Backup | None) -> str | None:
        """Why a window stays; None where it is gone."""
        try:
            with self._alone(one.window) as lock, settling(self.data, self.stream):
                kept = self._kept(what, one, backup)
                if kept is None:
                    for path in one.files:
                        delete(path)
                    if not one.window.is_hour:
                        self._unmark(one.window)
                lock.remove()
                return kept
        except PipelineError as error:
            return str(error)

    def _alone(self, window: Window) -> AbstractContextManager[Lock]:
        if window.is_hour:
            return at_window(self.data, self.stream, window)
        day = window.start.date()
        return alone(self.data, self.stream, day, WindowBusy(f"a run is at a window of {day}; wait for it to end"))

    def _unmark(self, window: Window) -> None:
        """A day of which nothing is left is none."""
        lake, day = self.data.lake, window.start.date()
        if not any(exists(lake.day_path(self.stream, name, day)) for name in (EVENTS, *(one.name for one in _TABLES))):
            delete(lake.mark_path(self.stream, day))

    def _kept(self, what: str, one: Held, backup: Backup | None) -> str | None:
        """Why a window that is due is not to be deleted."""
        try:
            return self._unfed(what, one) or (_uncopied(one, backup) if backup else None)
        except PipelineError as error:
            return str(error)

    def _unfed(self, what: str, one: Held) -> str | None:
        is_day = not one.window.is_hour
        if what == EVENTS and (is_day or self.data.lake.events_path(self.stream, one.window) in one.files):
            windows = hours(one.window.start, one.window.end)
            for window, feed in product(windows, self.feeds):
                if not is_fed(self.stream, window, feed, self.data):
                    return f"the queue {feed.queue} has not had all of it"
        return None


def _uncopied(one: Held, backup: Backup) -> str | None:
    for path in one.files:
        if path.stem == quarantine.NAME:
            if quarantine.count(path):
                return "messages of it are in quarantine, which no copy is asked for"
        elif is_of_an_hour(path) and not one.window.is_hour:
            continue  # What is left of an hour that the day's file holds.
        elif not _is_emptied(path) and (lack := backup.lacks(path)):
            return lack
    return None


def _is_emptied(path: AnyPath) -> bool:
    """Whether an incomplete window has become whole since, so that its file holds nothing."""
    return path.parent.parent.parent.name == INCOMPLETE and read_summary(path).state.is_whole


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(filter(None, (one, other)), default=None)
