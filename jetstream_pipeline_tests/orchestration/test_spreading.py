"""Runs on several machines begin with different hosts, as their tags tell each other; on one machine, locks do."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.test_utils import ExplodingRunLauncher

from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.orchestration.spreading import HOST_TAG, spread
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.driving import hours_ago

A, B, C = HOSTS = tuple(map(Host.parse, ("us-east-1", "ws://[::1]:6008", "us-west-1")))
FIRST = Window.from_key("2026-07-04-00:00")
"""Whose turn it is that HOSTS[0] leads."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """One whose runs are launched elsewhere."""
    text = f"run_launcher: {{module: {ExplodingRunLauncher.__module__}, class: ExplodingRunLauncher}}"
    (tmp_path / "dagster.yaml").write_text(text)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as instance:
        yield instance


def begun(instance: dg.DagsterInstance, window: Window, status: dg.DagsterRunStatus) -> tuple[Host, ...]:
    """What a new run that stands so begins the window with."""
    job = dg.JobDefinition(name="job", graph_def=dg.GraphDefinition(name="job"))
    return spread(instance, instance.create_run_for_job(job, status=status), HOSTS, window)


def test_each_run_at_work_begins_with_another_host_and_dead_ones_with_none(instance: dg.DagsterInstance) -> None:
    started = dg.DagsterRunStatus.STARTED
    window = hours_ago(5)
    leaders = [begun(instance, window, started)[0] for _ in HOSTS]
    assert sorted(leaders, key=HOSTS.index) == list(HOSTS)
    assert begun(instance, window, started)[0] == leaders[0]
    (second,) = instance.get_runs(dg.RunsFilter(tags={HOST_TAG: leaders[1].name}))
    instance.report_run_failed(second)
    assert begun(instance, window, started)[0] == leaders[1]


def test_of_hosts_that_are_as_free_it_is_the_windows_turn(instance: dg.DagsterInstance) -> None:
    ended = dg.DagsterRunStatus.SUCCESS
    window, orders = FIRST, []
    for _ in range(4):
        orders.append(begun(instance, window, ended))
        window = Window.hour(window.end)
    assert orders == [(A, B, C), (B, A, C), (C, A, B), (A, B, C)]


def test_a_single_host_and_a_single_machine_are_left_as_they_are(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(dg.JobDefinition(name="job", graph_def=dg.GraphDefinition(name="job")))
    assert spread(instance, run, [B], FIRST) == (B,)
    with dg.instance_for_test() as alone:
        assert spread(alone, run, HOSTS, Window.hour(FIRST.end)) == HOSTS
    assert HOST_TAG not in instance.get_run_by_id(run.run_id).tags
