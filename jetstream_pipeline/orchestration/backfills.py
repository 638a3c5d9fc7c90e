"""Backfills whose launcher chooses how many windows a run takes, which Dagster's own dialog does not offer: a job with
a configuration, and the sensor that asks for the runs that it plans."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.metadata import STREAM_TAG, figures
from jetstream_pipeline.orchestration.under_way import RANGE_TAGS
from jetstream_pipeline.streams.catching_up import settled
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window, hours, parse_time, spans

_PLAN = "plan"
_INTERVAL_SEC = 10


class BackfillConfig(dg.Config):
    """Which hours, and how many of them in one run. As it stands: what is missing, a day in each run."""

    first: str = Field(
        "", description="The first hour, UTC: 2026-01-31-14:00. Empty: the stream's first, or what hosts still have."
    )
    last: str = Field("", description="The last hour, UTC. Empty: the newest that has settled.")
    windows_per_run: int = Field(
        24, ge=1, le=24 * 31, description="1: a run for each window. More: runs over ranges, each window still its own."
    )
    only_missing: bool = Field(True, description="Leave out the windows that are whole.")


def backfill(stream: Stream, events_job: Any) -> tuple[dg.JobDefinition, dg.SensorDefinition]:
    """`<stream>_backfill`, and the sensor that turns its plan into runs of `events_job`."""

    @dg.op(
        name=f"{stream.name}_{_PLAN}",
        out=dg.Out(dg.Nothing),
        description="Says which windows will be replayed, in how many runs; a sensor asks for the runs.",
    )
    def plan(context: dg.OpExecutionContext, config: BackfillConfig) -> None:
        with told_to_dagster(context):
            planned = planned_spans(stream, config, datetime.now(UTC))
        windows = sum(len(list(hours(span.start, span.end))) for span in planned)
        context.log.info(f"{windows} windows in {len(planned)} runs")
        context.add_output_metadata(figures({"windows": windows, "runs": len(planned)}))

    @dg.job(
        name=f"{stream.name}_backfill",
        description="Replays many windows, as many in one run as you choose. Launch it as it stands: what is missing.",
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name},
    )
    def job() -> None:
        plan()

    @dg.run_status_sensor(
        name=f"{stream.name}_backfill_runs",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[job],
        request_job=events_job,
        minimum_interval_seconds=_INTERVAL_SEC,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for the runs of a backfill that was launched with a number of windows for each.",
    )
    def sensor(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest]:
        run = context.dagster_run
        config: Any = run.run_config
        said = config.get("ops", {}).get(f"{stream.name}_{_PLAN}", {}).get("config", {})
        for span in planned_spans(stream, BackfillConfig(**said), datetime.now(UTC)):
            keys = [window.key for window in hours(span.start, span.end)]
            tags = dict(zip(RANGE_TAGS, (keys[0], keys[-1]), strict=True))
            yield dg.RunRequest(run_key=f"{run.run_id}:{keys[0]}", tags=tags)

    return job, sensor


def planned_spans(stream: Stream, config: BackfillConfig, now: datetime) -> list[Window]:
    """The hours of each run; InvalidInput where they are none, or not of the stream, or not past."""
    start = stream.first_hour(now)
    known = settled(start, now, stream.settings.settle)
    first = parse_time(config.first) if config.first else max(start, stream.beginning(now))
    last = parse_time(config.last) if config.last else (known[-1].start if known else start)
    asked = list(hours(first, Window.hour(last).end))
    if unknown := [window for window in (asked[0], asked[-1]) if window not in known]:
        raise InvalidInput(f"{unknown[0]} is no settled hour of {stream.name}, which begins at {start:%Y-%m-%d %H:%M}")
    whole = stream.data.lake.whole(stream.name) if config.only_missing else set()
    return spans((window for window in asked if window not in whole), config.windows_per_run)
