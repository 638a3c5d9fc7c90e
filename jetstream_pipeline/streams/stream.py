"""A configured stream and its use cases: one window replayed, or held against a second host, as the stream says. How a
stream is declared belongs to whoever declares it; what replaying is, to `replay`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.answers import ListedSegment
from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.handles.cache import HandleCache
from jetstream_pipeline.handles.resolve import HandleResolver
from jetstream_pipeline.iceberg.following import follow, leaving
from jetstream_pipeline.iceberg.way import make_way
from jetstream_pipeline.jetstream.dictionaries import Dictionaries
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.leading import leading
from jetstream_pipeline.replay.reading import Progress
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.segments import list_segments, read_segment, segment_name
from jetstream_pipeline.replay.verify import Report, verify_window
from jetstream_pipeline.retention.prune import Pruned, Pruning
from jetstream_pipeline.retention.rules import Retention
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.days import summary_of
from jetstream_pipeline.storage.horizon import Horizon, read_horizon
from jetstream_pipeline.storage.lake import ARCHIVE, EVENTS
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import SegmentSummary, WindowSummary
from jetstream_pipeline.streams.did_file import read_dids
from jetstream_pipeline.tables.compaction import Compacted, Compaction
from jetstream_pipeline.tables.definitions import TABLES, Table
from jetstream_pipeline.window import Window

_DAYS_BEFORE = timedelta(days=2)
"""How far a new stream reaches back: old enough for what the public hosts still have."""


@dataclass(frozen=True)
class Stream:
    """What a stream's windows hold, where they come from, and what is made of them.

    `collections`, `dids`, the DIDs of `dids_file` and of `handles` are the filter; empty means all. `hosts` are in the
    order of fail-over. `start`: its first hour; None: see `first_hour`. `retention`: what of it is kept.
    `compact_after`: how old a day must be to become one file for each data set; None: it never does. `archive`: whether
    the segments of a host's archive are read too, each as it is. `windows_per_run`: how many windows one run of a
    backfill takes; None: whoever launches it chooses.
    """

    name: str
    settings: Settings
    hosts: tuple[Host, ...]
    collections: tuple[str, ...] = ()
    dids: tuple[str, ...] = ()
    dids_file: Path | None = None
    handles: tuple[str, ...] = ()
    wire: Wire | None = None
    compression: bool = False
    start: datetime | None = None
    tables: tuple[Table, ...] = TABLES
    feeds: tuple[Feed, ...] = ()
    report: bool = True
    retention: Retention = field(default_factory=Retention)
    compact_after: timedelta | None = None
    archive: bool = False
    windows_per_run: int | None = None
    owners: tuple[str, ...] = field(default=("team:jetstream",))

    @property
    def data(self) -> DataDirectory:
        return self.settings.data

    def subscription(self) -> Subscription:
        """The filter. InvalidInput where the file or a handle is none; asks the network for handles."""
        named = read_dids(self.dids_file) if self.dids_file else []
        resolver = HandleResolver(self.settings.endpoints(), HandleCache(self.data.handles))
        resolved = asyncio.run(resolver.resolve(self.handles)) if self.handles else []
        dids = dict.fromkeys((*self.dids, *named, *(handle.did for handle in resolved)))
        return Subscription(self.collections, tuple(dids))

    def replay(
        self,
        window: Window,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        since: datetime | None = None,
        hosts: Sequence[Host] = (),
    ) -> WindowSummary:
        """Replay a window; errors as `replay_window`. One that has become whole after `since` is taken as it stands.

        Windows that are replayed at the same time on this machine begin with different hosts, as long as there are
        others. `hosts`: the stream's in another order.
        """
        subscription = self.subscription()
        standing = self.standing(window)
        if since and standing and standing.finished_at >= since and standing.fingerprint == subscription.fingerprint:
            return standing
        self.make_way(window, EVENTS)
        with leading(hosts or self.hosts, self.data.staging / ".hosts") as ordered:
            return replay_window(
                self.name,
                subscription,
                window,
                hosts=ordered,
                data=self.data,
                settle=self.settings.settle,
                skew=self.settings.host_skew,
                options=self._options(),
                on_progress=on_progress,
            )

    def verify(self, window: Window, on_progress: Callable[[Progress], None] | None = None) -> Report:
        """Hold a window that stands against another host; errors as `verify_window`."""
        self.make_way(window, EVENTS)
        return verify_window(
            self.name,
            window,
            hosts=self.hosts,
            data=self.data,
            settle=self.settings.settle,
            skew=self.settings.host_skew,
            options=self._options(),
            on_progress=on_progress,
        )

    def segments(self) -> tuple[Host, list[ListedSegment]]:
        """The sealed segments of the first host that has an archive; errors as `list_segments`."""
        return list_segments(self.hosts, self.access)

    def read_segment(self, name: str) -> SegmentSummary:
        """Read one of them; errors as `read_segment`. InvalidInput where there is none of that name."""
        host, listed = self.segments()
        segment = next((one for one in listed if segment_name(one) == name), None)
        if segment is None:
            raise InvalidInput(f"{host.name}'s archive has no segment {name}")
        self.make_way(name, ARCHIVE)
        return read_segment(self.name, self.subscription(), segment, host=host, data=self.data, access=self.access)

    @property
    def has_catalogue(self) -> bool:
        """Whether the lake's files are registered in an Iceberg catalogue."""
        return bool(self.settings.iceberg.get_secret_value())

    def make_way(self, window: Window | str, dataset: str) -> None:
        """Let a window, or a segment by its name, be replaced in a data set whose Iceberg table shows it."""
        make_way(self.settings.iceberg, self.data, self.name, window, [dataset])

    def follow(self, dataset: str) -> PipelineError | None:
        """Bring a data set's Iceberg table up to date; what keeps one from it."""
        return follow(self.settings.iceberg, self.data, self.name, [dataset])

    def standing(self, window: Window) -> WindowSummary | None:
        """What the lake has of a window, where it is whole and can be read."""
        with suppress(PipelineError):
            return summary_of(self.data.lake, self.name, window) if self.data.lake.has(self.name, window) else None
        return None

    def prune(self, now: datetime, *, dry_run: bool = False) -> Iterator[Pruned]:
        """Delete what is beyond the stream's limits; see `Pruning.run`."""
        leave = leaving(self.settings.iceberg, self.data, self.name)
        return Pruning(self.data, self.name, self.retention, self.feeds, leave).run(now, dry_run=dry_run)

    def compact(self, now: datetime) -> Iterator[Compacted]:
        """Make one file for each data set of the days that are old enough; see `Compaction.run`."""
        if self.compact_after is not None:
            yield from Compaction(self.data, self.name).run((now - self.compact_after).date())

    def horizon(self) -> Horizon:
        """From where on the stream is kept."""
        return read_horizon(self.data.lake.horizon_path(self.name))

    def is_gone(self, window: Window) -> bool:
        """Whether a window was deleted because it is beyond the stream's limits."""
        horizon = self.horizon().events
        return bool(horizon and window.start < horizon) and not self.data.lake.has(self.name, window)

    def has_tables(self, window: Window) -> bool:
        """Whether tables are derived of a window, as far as limits go."""
        horizon = self.horizon().derived
        return horizon is None or window.start >= horizon

    def beginning(self, now: datetime) -> datetime:
        """The first hour that is to be there: `start`, or JETSTREAM_FIRST_HOUR, or the oldest that hosts may still have
        or that the lake has; nothing that was deleted on purpose."""
        given = self.start or self.settings.first_hour
        recent = Window.hour(now - self.settings.look_back).end
        first = given or min(self.data.lake.oldest_hour(self.name) or recent, recent)
        return max(first, self.horizon().events or first)

    def first_hour(self, now: datetime | None = None) -> datetime:
        """The first hour that can be asked for: the beginning where that is given; otherwise it lies before that, by
        days, so that what is asked for can be for as long as it takes."""
        now = now or datetime.now(UTC)
        if given := self.start or self.settings.first_hour:
            return given
        return min(self.beginning(now), now - _DAYS_BEFORE).replace(hour=0, minute=0, second=0, microsecond=0)

    def _options(self) -> Options:
        settings = self.settings
        dictionaries = Dictionaries(self.data.cache, v1_file=settings.zstd_dictionary) if self.compression else None
        return Options(self.wire, dictionaries, transport=settings.transport, archive=self.access)

    @property
    def access(self) -> Access:
        """How hosts' archives are asked."""
        return Access(self.data.archive, self.settings.api_token)
