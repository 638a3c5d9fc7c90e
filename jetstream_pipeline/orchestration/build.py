"""All of Dagster's definitions of a stream, and of what is there once; put together here and nowhere else."""

from __future__ import annotations

import dagster as dg

from jetstream_pipeline.orchestration.ad_hoc import ad_hoc_job
from jetstream_pipeline.orchestration.alerts import alert_sensors
from jetstream_pipeline.orchestration.archive import archive_definitions
from jetstream_pipeline.orchestration.backfills import backfill
from jetstream_pipeline.orchestration.catch_up import catch_up_sensor
from jetstream_pipeline.orchestration.checks import check_keys, standing_checks
from jetstream_pipeline.orchestration.compaction import compaction_definitions
from jetstream_pipeline.orchestration.consumers import consumer_sensor
from jetstream_pipeline.orchestration.events import events_asset
from jetstream_pipeline.orchestration.feeds import feed_asset
from jetstream_pipeline.orchestration.metadata import STREAM_TAG, URGENT
from jetstream_pipeline.orchestration.pruning_job import pruning_definitions
from jetstream_pipeline.orchestration.reports import REPORT, report_asset
from jetstream_pipeline.orchestration.retention import retention_definitions
from jetstream_pipeline.orchestration.tables import table_asset
from jetstream_pipeline.orchestration.verification import verification_job
from jetstream_pipeline.retention.prune import TABLES
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.streams.stream import Stream


def stream_definitions(stream: Stream) -> dg.Definitions:
    """A stream's assets, checks, jobs, its schedule and its sensors."""
    events = events_asset(stream)
    events_job = dg.define_asset_job(
        f"{stream.name}_events",
        selection=dg.AssetSelection.assets(events.key).without_checks()
        | dg.AssetSelection.checks(*check_keys(events.key, catalogue=stream.has_catalogue)),
        description="Replays a window from Jetstream.",
        tags={STREAM_TAG: stream.name},
    )
    consumers = {feed.queue: [feed_asset(stream, feed, events.key)] for feed in stream.feeds}
    if stream.tables:
        consumers[TABLES] = [table_asset(stream, table, events.key) for table in stream.tables]
    if stream.report:
        consumers[REPORT] = [report_asset(stream, events.key)]
    backfill_job, backfill_sensor = backfill(stream, events_job)
    wanted = {name: lambda window: not stream.is_gone(window) for name in consumers} | {TABLES: stream.has_tables}
    watching = [consumer_sensor(stream, name, events.key, assets, wanted[name]) for name, assets in consumers.items()]
    definitions = dg.Definitions(
        assets=[events, *(asset for assets in consumers.values() for asset in assets)],
        asset_checks=[standing_checks(stream, events.key)],
        jobs=[events_job, backfill_job, *(job for _, job in watching), verification_job(stream, events.key)],
        schedules=[
            dg.build_schedule_from_partitioned_job(
                events_job,
                name=f"{stream.name}_hourly",
                minute_of_hour=stream.settings.settle_minutes,
                default_status=dg.DefaultScheduleStatus.RUNNING,
                tags=URGENT,
                description="Replays the hour that has just ended.",
            )
        ],
        sensors=[
            *(sensor for sensor, _ in watching),
            backfill_sensor,
            catch_up_sensor(stream, events.key, events_job),
            *alert_sensors(stream, events.key),
        ],
        executor=dg.in_process_executor,
    )
    parts = [archive_definitions(stream)] if stream.archive else []
    parts += [retention_definitions(stream)] if stream.retention else []
    parts += [compaction_definitions(stream)] if stream.compact_after is not None else []
    return dg.Definitions.merge(definitions, *parts)


def common_definitions(settings: Settings) -> dg.Definitions:
    """What is there once, whatever streams there are."""
    common = dg.Definitions(jobs=[ad_hoc_job(settings)], executor=dg.in_process_executor)
    return dg.Definitions.merge(common, pruning_definitions(settings))
