"""All of Dagster's definitions, put together from settings, so that a test can build them with its own."""

from __future__ import annotations

import dagster as dg

from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration.events import events_asset
from jetstream_pipeline.settings import Settings

DEFAULT_STREAM = "network"


def build_definitions(settings: Settings) -> dg.Definitions:
    """The default stream's asset, its job, and the schedule for the window that has just ended."""
    events = events_asset(DEFAULT_STREAM, Subscription(settings.collections), settings)
    job = dg.define_asset_job(f"{DEFAULT_STREAM}_events", selection=[events])
    schedule = dg.build_schedule_from_partitioned_job(
        job, minute_of_hour=settings.settle_minutes, default_status=dg.DefaultScheduleStatus.RUNNING
    )
    return dg.Definitions(assets=[events], jobs=[job], schedules=[schedule], executor=dg.in_process_executor)
