"""A stream's work that is done once a day: its job and its schedule. What the work is, others say."""

import dagster as dg

from jetstream_pipeline.orchestration.metadata import STREAM_TAG
from jetstream_pipeline.streams.stream import Stream


def daily(stream: Stream, name: str, op: dg.OpDefinition, cron: str, description: str) -> dg.Definitions:
    """The job `<stream>_<name>` of one op, and `<stream>_<name>_daily`, which runs it at that time (UTC)."""

    @dg.job(
        name=f"{stream.name}_{name}",
        description=description,
        executor_def=dg.in_process_executor,
        tags={STREAM_TAG: stream.name},
    )
    def job() -> None:
        op()

    schedule = dg.ScheduleDefinition(
        name=f"{job.name}_daily",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Once a day: {description}",
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])
