"""The job that prunes Dagster's records of old runs once a day, where JETSTREAM_KEEP_RUNS_DAYS says how old. What goes
and what stays is `pruning`'s."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from jetstream_pipeline.orchestration.pruning import Pruned, prune
from jetstream_pipeline.settings import Settings

_AT = "17 4 * * *"
_MOST = 5_000
"""Runs in one go: what is beyond is for the next day."""


def pruning_definitions(settings: Settings) -> dg.Definitions:
    """`prune_runs` and its schedule; nothing where runs are kept for ever."""
    if settings.keep_runs_days is None:
        return dg.Definitions()
    kept = timedelta(days=settings.keep_runs_days)

    @dg.op(name="prune_runs_op")
    def prune_op(context: dg.OpExecutionContext) -> None:
        done = sum(prune(context.instance, datetime.now(UTC) - kept, most=_MOST), Pruned())
        context.log.info(f"{done.deleted:,} runs deleted, {done.stripped:,} stripped of their logs, {done.kept:,} kept")

    @dg.job(
        name="prune_runs",
        executor_def=dg.in_process_executor,
        description="Prunes records of runs that ended JETSTREAM_KEEP_RUNS_DAYS ago; no window looks missing then.",
    )
    def prune_job() -> None:
        prune_op()

    schedule = dg.ScheduleDefinition(
        name="prune_runs_daily",
        job=prune_job,
        cron_schedule=_AT,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[prune_job], schedules=[schedule])
