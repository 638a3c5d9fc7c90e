"""Every materialization of a window asks for the tables once, in order, also when many land between two looks."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.orchestration.build import build_definitions
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.windows import HOUR, Window, commit, store

EVENTS = dg.AssetKey(["network", "events"])
WINDOWS = [Window.hour(HOUR.start + timedelta(hours=number)) for number in range(120)]


def materialized(instance: dg.DagsterInstance, *windows: Window) -> None:
    for window in windows:
        instance.report_runless_asset_event(dg.AssetMaterialization(EVENTS, partition=window.key))


def look(instance: dg.DagsterInstance, folder: Path, cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
    definitions = build_definitions(Settings(data_dir=folder))
    context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=definitions)
    (sensor,) = definitions.sensors or []
    data = sensor.evaluate_tick(context)  # type: ignore[union-attr]
    return list(data.run_requests or []), data.cursor or cursor


def test_every_window_is_asked_for_once_and_in_order(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert look(instance, tmp_path, None) == ([], None)
        materialized(instance, *WINDOWS)
        asked: list[dg.RunRequest] = []
        cursor = None
        for _ in range(4):
            requests, cursor = look(instance, tmp_path, cursor)
            asked += requests
    assert [request.partition_key for request in asked] == [window.key for window in WINDOWS]
    assert len({request.run_key for request in asked}) == len(WINDOWS)


def test_a_window_materialized_again_is_asked_for_again(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        materialized(instance, HOUR)
        first, cursor = look(instance, tmp_path, None)
        materialized(instance, HOUR)
        second, _ = look(instance, tmp_path, cursor)
    assert [request.partition_key for request in first + second] == [HOUR.key, HOUR.key]
    assert first[0].run_key != second[0].run_key


def test_a_window_that_the_partitions_no_longer_reach_holds_up_no_other(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        materialized(instance, Window.hour(HOUR.start - timedelta(days=1000)), HOUR)
        requests, cursor = look(instance, tmp_path, None)
        assert look(instance, tmp_path, cursor) == ([], cursor)
    assert [request.partition_key for request in requests] == [HOUR.key]


def test_what_is_asked_for_builds_every_table_of_the_window(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    store(data, [commit('{"text":"a"}'), commit('{"text":"b"}', number=1)])
    definitions = build_definitions(Settings(data_dir=tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        materialized(instance, HOUR)
        (request,), _ = look(instance, tmp_path, None)
        job = definitions.resolve_job_def("network_tables")
        result = job.execute_in_process(partition_key=request.partition_key, instance=instance)
    assert result.success
    (posts,) = result.asset_materializations_for_node("network__posts")
    metadata = {name: value.value for name, value in posts.metadata.items()}
    assert metadata["dagster/partition_row_count"] == pq.read_metadata(metadata["path"]).num_rows == 2
    assert sorted(data.lake.datasets("network")) == sorted(
        ["accounts", "blocks", "events", "follows", "identities", "likes", "posts", "profiles", "reposts"]
    )
    assert data.warehouse.exists()


def test_tables_without_their_window_fail_with_what_to_do(tmp_path: Path) -> None:
    job = build_definitions(Settings(data_dir=tmp_path)).resolve_job_def("network_tables")
    with pytest.raises(dg.Failure, match="replay it first") as failure:
        job.execute_in_process(partition_key=HOUR.key)
    assert failure.value.allow_retries is False
