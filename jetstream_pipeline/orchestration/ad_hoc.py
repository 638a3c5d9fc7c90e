"""Replays from the launchpad: any interval and filter, into a queue or a stream of its own."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum

import dagster as dg
from pydantic import Field

from jetstream_pipeline.connector.statistics import Progress, Statistics
from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.iceberg.following import follow
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.metadata import Metadata, figures, logged
from jetstream_pipeline.orchestration.pools import pool_of
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.queue.queue import location
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.streams.ad_hoc import PREFIX, AdHoc, interval, settled_hours

_PROGRESS_SEC = 10.0


class Into(Enum):
    # Dagster takes the names.
    queue = "queue"
    stream = "stream"


class AdHocConfig(dg.Config):
    """What to replay, and into what. As it stands: the posts of the last ten minutes into a queue."""

    start: str = Field(
        "",
        description="Begin here, UTC: 2026-01-31-14:00:00 or ISO 8601. Empty: ten minutes (a stream: an hour) before.",
    )
    end: str = Field(
        "", description="Stop here, UTC. Empty: a minute ago; for a stream the end of the last settled hour."
    )
    collections: list[str] = Field(
        ["app.bsky.feed.post"], description="Collections, or prefixes as app.bsky.graph.*; [] for all."
    )
    dids: list[str] = Field([], description="Only these repositories; [] for all.")
    handles: list[str] = Field([], description="Only these accounts, by handle; [] for all.")
    hosts: list[str] = Field([], description="Hosts in the order of fail-over; [] for JETSTREAM_HOSTS.")
    into: Into = Field(
        Into.queue, description="queue: items for programs to claim. stream: whole hours in the lake, proven complete."
    )
    name: str = Field("replay", description=f"The queue's or stream's name after {PREFIX}.")
    max_minutes: float = Field(60.0, description="Into a queue: stop after so long. 0: however long it takes.")


def ad_hoc_job(settings: Settings) -> dg.JobDefinition:
    """`ad_hoc_replay`: one op with a configuration that works as it stands."""

    @dg.op(
        name="replay",
        out=dg.Out(dg.Nothing),
        pool=pool_of(settings.parsed_hosts()[0]),
        description="Replays an interval into a queue, or its hours into a stream, with a name of its own.",
    )
    def replay(context: dg.OpExecutionContext, config: AdHocConfig) -> None:
        with told_to_dagster(context):
            if not config.max_minutes >= 0:
                raise InvalidInput(f"max_minutes={config.max_minutes}: write minutes, or 0 for as long as it takes")
            start, end = _interval(config, settings)
            wanted = AdHoc(
                name=config.name,
                start=start,
                end=end,
                settings=settings,
                collections=tuple(config.collections),
                dids=tuple(config.dids),
                handles=tuple(config.handles),
                hosts=tuple(config.hosts),
            )
            if config.into is Into.queue:
                _into_queue(context, wanted, config.max_minutes * 60)
            else:
                _into_stream(context, wanted)

    @dg.job(
        name="ad_hoc_replay",
        description="Replays any interval with any filter into a queue or a stream of its own. Launch it as it stands.",
        executor_def=dg.in_process_executor,
        tags={"dagster/max_retries": "0"},
    )
    def job() -> None:
        replay()

    return job


def _interval(config: AdHocConfig, settings: Settings) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    if config.into is Into.stream:
        return settled_hours(config.start, config.end, now, settings.settle)
    return interval(config.start, config.end, now)


def _into_queue(context: dg.OpExecutionContext, wanted: AdHoc, seconds: float) -> None:
    try:
        statistics = wanted.into_queue(seconds, _logged(context))
    except PipelineError as error:
        # Another attempt would add once more what came until then.
        raise dg.Failure(str(error), allow_retries=False) from error
    metadata: Metadata = figures(statistics.model_dump(mode="json"))
    metadata["queue"] = dg.MetadataValue.path(location(wanted.full_name, wanted.settings.data_dir))
    if lacking := _lacking(wanted, statistics):
        raise dg.Failure(lacking, metadata=metadata, allow_retries=False)
    context.log.info(f"{statistics.records_stored:,} events into the queue {wanted.full_name}")
    context.add_output_metadata(metadata)


def _lacking(wanted: AdHoc, statistics: Statistics) -> str:
    """Why not all of the interval is in the queue, and what to do; empty where all of it is."""
    asked = f"{wanted.start:%Y-%m-%d %H:%M:%S} to {wanted.end:%Y-%m-%d %H:%M:%S} UTC"
    told = list(statistics.gaps)
    if not statistics.end_cursor_reached:
        told.append("time ran out: raise max_minutes and run it again under another name")
    if not told:
        return ""
    part = "only a part" if statistics.records_stored else "nothing"
    return f"{part} of {asked} is in {wanted.full_name}: {'; '.join(told)}"


def _into_stream(context: dg.OpExecutionContext, wanted: AdHoc) -> None:
    done: list[WindowSummary] = []
    for summary in wanted.into_stream(lambda window: logged(context, window)):
        context.log.info(f"{summary.window}: {summary.state}, {summary.events:,} events")
        done.append(summary)
    if lag := follow(wanted.settings.iceberg, wanted.settings.data, wanted.full_name):
        context.log.warning(str(lag))
    incomplete = [summary for summary in done if not summary.state.is_whole]
    metadata = figures({"stream": wanted.full_name, "windows": len(done), "events": sum(one.events for one in done)})
    if incomplete:
        told = "; ".join(f"{summary.window} is {summary.state}: {summary.reason}" for summary in incomplete)
        raise dg.Failure(told, metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)


def _logged(context: dg.OpExecutionContext) -> Callable[[Progress], None]:
    told = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal told
        if progress.note:
            context.log.warning(progress.note)
        if time.monotonic() - told >= _PROGRESS_SEC:
            told = time.monotonic()
            context.log.info(f"{progress.records:,} events, {progress.records / max(progress.seconds, 1e-9):,.0f}/s")

    return report
