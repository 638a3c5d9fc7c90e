"""Which windows of a stream Dagster is at already: in runs that have not ended, and in backfills that go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.window import Window, hours

NOT_ENDED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
PARTITION_TAG = "dagster/partition"
"""Dagster's tag of a run over one partition."""
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""Dagster's tags of a run over many partitions: the first one and the last."""


def windows_under_way(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, events: dg.AssetKey, job: str
) -> set[Window]:
    """The windows of `events` that a run or a backfill is to materialize. `job`: the one that does nothing else."""
    windows: set[Window] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=NOT_ENDED)):
        if run.job_name == job or events in (run.asset_selection or ()):
            windows.update(_windows_of(run.tags))
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        windows.update(_known(_targets(backfill, repository, events, job)))
    return windows


def _windows_of(tags: Mapping[str, str]) -> Iterator[Window]:
    if PARTITION_TAG in tags:
        yield from _known([tags[PARTITION_TAG]])
    elif all(name in tags for name in RANGE_TAGS):
        ends = list(_known(tags[name] for name in RANGE_TAGS))
        if len(ends) == len(RANGE_TAGS) and ends[0] <= ends[1]:
            yield from hours(ends[0].start, ends[1].end)


def _targets(
    backfill: PartitionBackfill, repository: dg.RepositoryDefinition, events: dg.AssetKey, job: str
) -> Iterable[str]:
    if not backfill.is_asset_backfill:
        return (backfill.partition_names or ()) if backfill.job_name == job else ()
    data = backfill.get_asset_backfill_data(repository.asset_graph)
    if events not in data.target_subset.asset_keys:
        return ()
    return data.get_target_partitions_subset(events).get_partition_keys()


def _known(keys: Iterable[str]) -> Iterator[Window]:
    """The windows of partition keys; other assets' keys are none."""
    for key in keys:
        try:
            yield Window.from_key(key)
        except InvalidInput:
            continue
