"""A replay of an interval that somebody wants once: into a queue, or as whole hours into a stream. Both have names of
their own, so that nothing of it comes among what is scheduled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from jetstream_pipeline.connector.connector import JetstreamConnector
from jetstream_pipeline.connector.statistics import Progress, Statistics
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.resumption import FIRST_TIME_CURSOR
from jetstream_pipeline.replay.reading import Progress as WindowProgress
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window, from_us, hours, parse_time, to_us

PREFIX = "ad_hoc_"
"""What the names of such queues and streams begin with, and no other's."""

_SINCE = timedelta(minutes=10)
_BEFORE_NOW = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_EARLIEST = from_us(FIRST_TIME_CURSOR)
"""Hosts take what is earlier for something else than a time."""


def interval(start: str, end: str, now: datetime) -> tuple[datetime, datetime]:
    """The times that were typed; where empty: to a minute before `now`, from ten minutes before the end.

    InvalidInput where they are none, or in the wrong order, or not past.
    """
    return _interval(start, end, now, now - _BEFORE_NOW, _SINCE)


def settled_hours(start: str, end: str, now: datetime, settle: timedelta) -> tuple[datetime, datetime]:
    """As `interval`; where empty: to the end of the last hour that ended `settle` ago, from an hour before the end."""
    return _interval(start, end, now, Window.hour(now - settle).start, _HOUR)


def _interval(start: str, end: str, now: datetime, latest: datetime, length: timedelta) -> tuple[datetime, datetime]:
    until = parse_time(end) if end else latest
    since = parse_time(start) if start else until - length
    if since < _EARLIEST:
        raise InvalidInput(f"the start {since:%Y-%m-%d %H:%M:%S} is not a time of this network; it began in 2022")
    if since >= until:
        raise InvalidInput(f"the end {until:%Y-%m-%d %H:%M:%S} is not after the start {since:%Y-%m-%d %H:%M:%S} (UTC)")
    if until > now:
        raise InvalidInput(f"the end {until:%Y-%m-%d %H:%M:%S} UTC has not come yet")
    return since, until


@dataclass(frozen=True)
class AdHoc:
    """What to replay: the filter (empty: all), the hosts (empty: JETSTREAM_HOSTS), and the result's own name."""

    name: str
    start: datetime
    end: datetime
    settings: Settings = field(default_factory=Settings.read)
    collections: tuple[str, ...] = ()
    dids: tuple[str, ...] = ()
    handles: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The queue's or stream's name; InvalidInput where it cannot be one."""
        own = self.name.removeprefix(PREFIX)
        return check_name(PREFIX + own if own else "", "queue or stream")

    def into_queue(self, seconds: float, on_progress: Callable[[Progress], None] | None = None) -> Statistics:
        """The interval's events into a queue, each once, within so many seconds (0: however long it takes). Done again,
        they enter it again.

        All of the interval came where `end_cursor_reached` is true and there are no `gaps`; errors as
        `JetstreamConnector`.
        """
        connector = JetstreamConnector(self.full_name, batch_size=1000, data_dir=self.settings.data_dir)
        return asyncio.run(
            connector.listen_until_count(
                self.hosts or self.settings.hosts,
                self.collections,
                0,
                seconds,
                to_us(self.start),
                self.dids,
                to_us(self.end),
                wanted_handles=self.handles,
                on_progress=on_progress,
            )
        )

    def into_stream(self, progress_of: Callable[[Window], Callable[[WindowProgress], None]]) -> Iterator[WindowSummary]:
        """The interval's hours, one after the other; InvalidInput unless it is of whole hours. Errors as replaying.

        `progress_of` gives what hears of a window's progress.
        """
        stream = Stream(
            name=self.full_name,
            settings=self.settings,
            hosts=self.settings.parsed_hosts(self.hosts),
            collections=self.collections,
            dids=self.dids,
            handles=self.handles,
        )
        for window in hours(self.start, self.end):
            yield stream.replay(window, progress_of(window))
            refresh(stream.data)
