"""The asset of a stream's windows. Replaying is `replay`'s; here its result becomes Dagster's."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from jetstream_pipeline import __version__
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.orchestration.checks import catalogue_check, completeness, events_checks, window_checks
from jetstream_pipeline.orchestration.failures import failure
from jetstream_pipeline.orchestration.metadata import (
    Metadata,
    events_schema,
    figures,
    logged,
    materialization,
    window_metadata,
)
from jetstream_pipeline.orchestration.partitions import hourly, windows_of
from jetstream_pipeline.orchestration.pools import pool_of
from jetstream_pipeline.orchestration.spreading import spread
from jetstream_pipeline.storage.lake import EVENTS
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window

_RETRY_TAG = "dagster/retry_number"
"""Dagster's tag of the runs that it starts again by itself."""

Event = dg.MaterializeResult | dg.AssetMaterialization | dg.AssetCheckResult


def events_key(stream: Stream) -> dg.AssetKey:
    return dg.AssetKey([stream.name, "events"])


def pool(stream: Stream) -> str:
    """The pool of the host that a stream asks first. Its limit is how many windows are replayed from there at once;
    each of them begins with another of the stream's hosts as long as there is a free one."""
    return pool_of(stream.hosts[0])


def events_asset(stream: Stream) -> dg.AssetsDefinition:
    """`<stream>/events`: each partition is one window's file in the lake.

    A run may be about many windows. Each is materialized as soon as it is whole; one that fails does not keep the
    others from being replayed.
    """
    key = events_key(stream)

    @dg.asset(
        key=key,
        partitions_def=hourly(stream),
        group_name=stream.name,
        kinds={"jetstream", "parquet"},
        owners=list(stream.owners),
        tags={"stream": stream.name},
        code_version=__version__,
        description="Every event of the stream in an hour, replayed from Jetstream: one Parquet file.",
        metadata={
            "dagster/column_schema": events_schema(),
            "dagster/table_name": "events",
            "dagster/storage_kind": "parquet",
            "hosts": ", ".join(host.name for host in stream.hosts),
            "collections": ", ".join(stream.collections) or "all",
        },
        pool=pool(stream),
        output_required=False,
        check_specs=events_checks(key, catalogue=stream.has_catalogue),
        backfill_policy=_backfills(stream),
    )
    def events(context: dg.AssetExecutionContext) -> Iterator[Event]:
        yield from _Replaying(stream, key, context).run()

    return events


def _backfills(stream: Stream) -> dg.BackfillPolicy | None:
    """Without a policy, Dagster makes a run for each window."""
    return dg.BackfillPolicy.multi_run(stream.windows_per_run) if stream.windows_per_run else None


@dataclass
class _Replaying:
    """One run over its windows."""

    stream: Stream
    key: dg.AssetKey
    context: dg.AssetExecutionContext
    whole: dict[Window, WindowSummary] = field(default_factory=dict)
    incomplete: dict[Window, WindowSummary] = field(default_factory=dict)
    failed: dict[Window, PipelineError] = field(default_factory=dict)
    lag: PipelineError | None = None
    """What kept the catalogue from following the last window."""

    def run(self) -> Iterator[Event]:
        windows = windows_of(self.context)
        since = _began(self.context)
        for window in windows:
            try:
                summary = self._replay(window, since)
            except PipelineError as error:
                self.failed[window] = error
                self._log_failure(window, str(error), len(windows))
                continue
            (self.whole if summary.state.is_whole else self.incomplete)[window] = summary
            if not summary.state.is_whole:
                self._log_failure(window, summary.reason, len(windows))
            elif len(windows) > 1:
                yield materialization(self.key, window, summary, self._metadata(window, summary))
            else:
                yield dg.MaterializeResult(
                    metadata=self._metadata(window, summary),
                    data_version=dg.DataVersion(summary.content) if summary.content else None,
                )
        yield completeness(self.whole, self.incomplete, self.failed)
        if self.whole:
            yield from window_checks(self.stream, self.whole)
            if self.stream.has_catalogue:
                yield catalogue_check(self.lag)
        self._raise_failures(len(windows))

    def _replay(self, window: Window, since: datetime) -> WindowSummary:
        hosts = spread(self.context.instance, self.context.run, self.stream.hosts, window)
        summary = self.stream.replay(window, logged(self.context, window), since=since, hosts=hosts)
        refresh(self.stream.data)
        if summary.state.is_whole:
            self.lag = self.stream.follow(EVENTS)
        return summary

    def _metadata(self, window: Window, summary: WindowSummary) -> Metadata:
        return window_metadata(summary, self.stream.data.lake.events_path(self.stream.name, window))

    def _log_failure(self, window: Window, reason: str, windows: int) -> None:
        if windows > 1:
            self.context.log.error(f"{window}: {reason}; going on with the others")

    def _raise_failures(self, windows: int) -> None:
        """One failure for all that failed; tried again where all of it may pass."""
        if not (self.failed or self.incomplete):
            return
        told = [f"{window} is {summary.state}: {summary.reason}" for window, summary in self.incomplete.items()]
        told += [str(error) if windows == 1 else f"{window}: {error}" for window, error in self.failed.items()]
        metadata: Metadata = figures({"windows_whole": len(self.whole), "windows": windows})
        if windows == 1:
            for summary in self.incomplete.values():
                metadata |= window_metadata(summary)
        passing = not self.incomplete and all(error.passing for error in self.failed.values())
        raise failure(self.context, "; ".join(told), passing=passing, metadata=metadata)


def _began(context: dg.AssetExecutionContext) -> datetime:
    """When the run was asked for, or the one that Dagster tries again with it: what became whole since needs no second
    replay. What a person executes again is replayed."""
    run = context.run
    first = run.root_run_id if _RETRY_TAG in run.tags else None
    record = context.instance.get_run_record_by_id(first or run.run_id)
    return record.create_timestamp if record else datetime.now(UTC)
