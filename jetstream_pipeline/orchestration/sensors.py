"""What watches for new windows and asks for runs. What a run does is the assets' to say."""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster import AssetRecordsFilter
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

_WINDOWS_PER_TICK = 50
_INTERVAL_SEC = 10


def new_windows_sensor(
    events: dg.AssetKey, job: UnresolvedAssetJobDefinition, partitions: dg.PartitionsDefinition
) -> dg.SensorDefinition:
    """Runs `job` once for every materialization of a window of `events`, in order, none passed over.

    The cursor is the storage id of the last one seen; the run's key holds it, so that a window that is materialized
    again is consumed again.
    """

    @dg.sensor(
        name=f"{job.name}_for_new_windows",
        job=job,
        minimum_interval_seconds=_INTERVAL_SEC,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Runs {job.name} for every newly materialized window.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = int(context.cursor) if context.cursor else None
        records = context.instance.fetch_materializations(
            AssetRecordsFilter(events, after_storage_id=seen), limit=_WINDOWS_PER_TICK, ascending=True
        ).records
        if not records:
            return dg.SkipReason("no new window")
        return dg.SensorResult(
            run_requests=list(_requests(records, partitions)), cursor=str(max(record.storage_id for record in records))
        )

    return sensor


def _requests(records: Sequence[dg.EventLogRecord], partitions: dg.PartitionsDefinition) -> Iterator[dg.RunRequest]:
    """A request for each window; those that the partitions no longer reach (`JETSTREAM_FIRST_HOUR`) are left out."""
    for record in records:
        if record.partition_key and partitions.has_partition_key(record.partition_key):
            yield dg.RunRequest(
                run_key=f"{record.partition_key}:{record.storage_id}", partition_key=record.partition_key
            )
