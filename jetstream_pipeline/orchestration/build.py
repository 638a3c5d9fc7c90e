"""All of Dagster's definitions, put together from settings, so that a test can build them with its own."""

from __future__ import annotations

import dagster as dg

from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration.events import events_asset
from jetstream_pipeline.orchestration.partitions import hourly
from jetstream_pipeline.orchestration.sensors import new_windows_sensor
from jetstream_pipeline.orchestration.tables import table_asset
from jetstream_pipeline.orchestration.verification import verification_job
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.tables.definitions import TABLES

DEFAULT_STREAM = "network"


def build_definitions(settings: Settings) -> dg.Definitions:
    """The default stream's events and tables, a job for each and one that verifies, the schedule, the sensor."""
    events = events_asset(DEFAULT_STREAM, Subscription(settings.collections), settings)
    tables = [table_asset(DEFAULT_STREAM, table, settings) for table in TABLES]
    events_job = dg.define_asset_job(f"{DEFAULT_STREAM}_events", selection=[events])
    tables_job = dg.define_asset_job(f"{DEFAULT_STREAM}_tables", selection=tables)
    schedule = dg.build_schedule_from_partitioned_job(
        events_job, minute_of_hour=settings.settle_minutes, default_status=dg.DefaultScheduleStatus.RUNNING
    )
    return dg.Definitions(
        assets=[events, *tables],
        jobs=[events_job, tables_job, verification_job(DEFAULT_STREAM, events.key, settings)],
        schedules=[schedule],
        sensors=[new_windows_sensor(events.key, tables_job, hourly(settings))],
        executor=dg.in_process_executor,
    )
