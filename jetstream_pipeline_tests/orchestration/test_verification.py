"""The job that holds windows against a second host, in a real Dagster instance."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from jetstream_pipeline.orchestration import failures
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline.streams import stream as streams
from jetstream_pipeline_tests.orchestration.arguments import Recorder
from jetstream_pipeline_tests.orchestration.driving import Driver, declared, hours_ago, plain

NETWORK = Network(rate=4)
WINDOW = hours_ago(3)
JOB = "network_verification"
ALL: dict[str, list[str]] = {"collections": []}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def verify(dagster: Driver) -> dg.ExecuteInProcessResult:
    return dagster.run(JOB, dg.RunRequest(partition_key=WINDOW.key))


def told_of(result: dg.ExecuteInProcessResult) -> dg.Failure:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure
    return dg.Failure(failure.description, metadata=failure.metadata)


def test_a_window_that_no_host_stands_for_fails_the_job_and_is_not_tried_again(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    with running(Simulator(NETWORK)) as first, running(Simulator(NETWORK, blind=0.3)) as blind:
        dagster = Driver(declared(data, first.address, blind.address, first=WINDOW, **ALL), instance)
        dagster.stream.replay(WINDOW)
        assert not data.warehouse.exists()
        result = verify(dagster)
        (materialization,) = dagster.materializations()
        job = dagster.definitions.resolve_job_def(JOB)
        with pytest.raises(dg.Failure) as raised:
            job.execute_in_process(partition_key=WINDOW.key, instance=instance)
    assert raised.value.allow_retries is False
    assert data.warehouse.exists()
    failure = told_of(result)
    assert "not verified" in (failure.description or "")
    assert plain(failure.metadata)["blind_hosts"] == blind.address.removeprefix("ws://")
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert plain(materialization.metadata)["repaired_now"] == 0


def test_what_the_first_host_lacked_is_merged_in_and_consumed(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    with running(Simulator(NETWORK, blind=0.3)) as blind, running(Simulator(NETWORK)) as seeing:
        dagster = Driver(declared(data, blind.address, seeing.address, first=WINDOW, report=False, **ALL), instance)
        assert dagster.replay(WINDOW).success
        assert dagster.consume("tables") == {WINDOW.key: True}
        assert verify(dagster).success
    before, after = dagster.materializations()
    summary = read_summary(data.lake.events_path("network", WINDOW))
    metadata = plain(after.metadata)
    assert summary.state is WindowState.VERIFIED
    assert (after.partition, metadata["state"]) == (WINDOW.key, "verified")
    lacked = plain(before.metadata)["dagster/partition_row_count"]
    assert metadata["repaired"] == metadata["repaired_now"] == summary.events - lacked > 1000
    assert metadata["dagster/partition_row_count"] == summary.events
    assert metadata["blind_hosts"] == blind.address.removeprefix("ws://")
    (compared,) = metadata["compared_with"]
    assert (compared["host"], compared["agreed"]) == (seeing.address.removeprefix("ws://"), True)
    assert (after.tags or {})["dagster/data_version"] == summary.content != (before.tags or {})["dagster/data_version"]
    assert dagster.consume("tables") == {WINDOW.key: True}
    assert sum(plain(one.metadata)["dagster/partition_row_count"] for one in dagster.materializations("posts")) > 0
    # A window that others stand for stays as it is, and is not consumed once more.
    assert dagster.replay(WINDOW).success
    assert dagster.consume("tables") == {}


def test_it_tries_again_what_may_pass(
    data: DataDirectory, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_FIRST_PAUSE_SEC", 0.01)
    dagster = Driver(declared(data, "ws://127.0.0.1:9", first=WINDOW), instance)
    asked = Recorder("somebody is at it", passing=True)
    monkeypatch.setattr(streams, "verify_window", asked)
    result = verify(dagster)
    assert told_of(result).description == "somebody is at it"
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 3


def test_a_window_that_is_not_there_fails_with_what_to_do(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    dagster = Driver(declared(data, "ws://127.0.0.1:9", first=WINDOW, **ALL), instance)
    result = verify(dagster)
    assert "network" in (told_of(result).description or "")
    assert "replay" in (told_of(result).description or "")
    assert dagster.materializations() == []


def test_the_settings_reach_it(
    data: DataDirectory, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Recorder()
    monkeypatch.setattr(streams, "verify_window", asked)
    stream = declared(
        data, "one.example", "two.example", first=WINDOW, settle_minutes=7, host_skew_seconds=11, wire="v1"
    )
    assert not verify(Driver(stream, instance)).success
    asked.holds(stream, "network", WINDOW)
    assert callable(asked.named["on_progress"])
