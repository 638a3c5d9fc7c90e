"""Windows that Dagster is at already are found, however somebody asked for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from jetstream_pipeline.orchestration.under_way import windows_under_way
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.driving import EVENTS, RANGE, REPOSITORY, Driver, declared
from jetstream_pipeline_tests.windows import HOUR

JOB = "network_events"
WINDOWS = [Window.hour(HOUR.start + timedelta(hours=number)) for number in range(6)]
NOT_ENDED = ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"]
POSTS = dg.AssetKey(["network", "posts"])


@pytest.fixture
def dagster(data: DataDirectory) -> Iterator[Driver]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Driver(declared(data, first=HOUR), instance)


def under_way(dagster: Driver) -> list[Window]:
    repository = dagster.definitions.get_repository_def()
    return sorted(windows_under_way(dagster.instance, repository, EVENTS, JOB))


def of(*windows: Window) -> dict[str, str]:
    if len(windows) == 1:
        return {"dagster/partition": windows[0].key}
    return dict(zip(RANGE, (windows[0].key, windows[-1].key), strict=True))


def asset_backfill(
    dagster: Driver, windows: Sequence[Window], *assets: dg.AssetKey, graph: dg.Definitions | None = None
) -> PartitionBackfill:
    """What the UI makes of a click, stored as the UI stores it."""
    return PartitionBackfill.from_asset_partitions(
        backfill_id="assets",
        asset_graph=(graph or dagster.definitions).resolve_asset_graph(),
        partition_names=[window.key for window in windows],
        asset_selection=list(assets),
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=dagster.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )


def job_backfill(job: str, windows: Sequence[Window]) -> PartitionBackfill:
    return PartitionBackfill(
        backfill_id="job",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time(),
        partition_set_origin=REPOSITORY.get_partition_set_origin(f"{job}_partition_set"),
        partition_names=[window.key for window in windows],
    )


def test_nothing_is_under_way_in_the_beginning(dagster: Driver) -> None:
    assert under_way(dagster) == []


@pytest.mark.parametrize("status", NOT_ENDED)
def test_a_run_that_has_not_ended(dagster: Driver, status: str) -> None:
    dagster.stands(JOB, status, of(WINDOWS[2]))
    assert under_way(dagster) == [WINDOWS[2]]


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "CANCELED"])
def test_not_a_run_that_has_ended(dagster: Driver, status: str) -> None:
    dagster.stands(JOB, status, of(WINDOWS[2]))
    assert under_way(dagster) == []


def test_a_run_over_a_range(dagster: Driver) -> None:
    dagster.stands(JOB, "STARTED", of(*WINDOWS[1:4]))
    assert under_way(dagster) == WINDOWS[1:4]


def test_a_run_of_assets_with_the_events_among_them(dagster: Driver) -> None:
    dagster.stands("__ASSET_JOB", "QUEUED", of(WINDOWS[0]), [EVENTS, POSTS])
    dagster.stands("__ASSET_JOB", "QUEUED", of(*WINDOWS[3:5]), [EVENTS])
    assert under_way(dagster) == [WINDOWS[0], *WINDOWS[3:5]]


def test_not_a_run_of_other_assets_or_jobs(dagster: Driver) -> None:
    dagster.stands("__ASSET_JOB", "STARTED", of(WINDOWS[0]), [POSTS])
    dagster.stands("network_tables", "STARTED", of(WINDOWS[1]))
    dagster.stands("network_verification", "STARTED", of(WINDOWS[2]))
    assert under_way(dagster) == []


@pytest.mark.parametrize("tags", [{}, of(WINDOWS[3], WINDOWS[1])])
def test_a_run_that_does_not_say_of_what_it_is_is_passed_over(dagster: Driver, tags: dict[str, str]) -> None:
    dagster.stands(JOB, "STARTED", tags)
    dagster.stands(JOB, "STARTED", of(WINDOWS[5]))
    assert under_way(dagster) == [WINDOWS[5]]


def test_a_backfill_of_assets(dagster: Driver) -> None:
    windows = [WINDOWS[0], *WINDOWS[3:5]]
    dagster.instance.add_backfill(asset_backfill(dagster, windows, EVENTS, POSTS))
    assert under_way(dagster) == windows


def test_not_a_backfill_of_other_assets(dagster: Driver) -> None:
    dagster.instance.add_backfill(asset_backfill(dagster, WINDOWS, POSTS))
    assert under_way(dagster) == []


def test_a_backfill_of_the_job(dagster: Driver) -> None:
    dagster.instance.add_backfill(job_backfill(JOB, WINDOWS[1:3]))
    assert under_way(dagster) == WINDOWS[1:3]


def test_not_a_backfill_of_another_job(dagster: Driver) -> None:
    dagster.instance.add_backfill(job_backfill("network_tables", WINDOWS[1:3]))
    assert under_way(dagster) == []


@pytest.mark.parametrize("status", [status for status in BulkActionStatus if status is not BulkActionStatus.REQUESTED])
def test_not_a_backfill_that_goes_on_no_more(dagster: Driver, status: BulkActionStatus) -> None:
    for backfill in (job_backfill(JOB, WINDOWS), asset_backfill(dagster, WINDOWS, EVENTS)):
        dagster.instance.add_backfill(backfill.with_status(status))
    assert under_way(dagster) == []


def test_a_backfill_of_assets_that_are_not_ours_is_passed_over(dagster: Driver) -> None:
    """It is of another code location, whose assets ours knows nothing of."""

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def theirs() -> None: ...

    graph = dg.Definitions(assets=[theirs])
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="theirs",
        asset_graph=graph.resolve_asset_graph(),
        partition_names=["a"],
        asset_selection=[theirs.key],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=dagster.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    dagster.instance.add_backfill(backfill)
    dagster.instance.add_backfill(job_backfill(JOB, WINDOWS[:1]))
    assert under_way(dagster) == WINDOWS[:1]


def test_a_backfill_from_before_the_stream_began_elsewhere_is_passed_over(data: DataDirectory, dagster: Driver) -> None:
    earlier = Window.hour(HOUR.start - timedelta(days=3))
    before = Driver(declared(data, first=earlier), dagster.instance)
    dagster.instance.add_backfill(asset_backfill(before, [earlier], EVENTS))
    dagster.instance.add_backfill(job_backfill(JOB, WINDOWS[:1]))
    assert WINDOWS[0] in under_way(dagster)
