"""The job that holds windows against a second host, in a real Dagster instance."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration import verification
from jetstream_pipeline.orchestration.build import build_definitions
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.arguments import Recorder

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
JOB = "network_verification"


def test_a_window_that_no_host_stands_for_fails_the_job_and_is_not_tried_again(data: DataDirectory) -> None:
    network = Network(rate=4)
    with running(Simulator(network)) as first, running(Simulator(network, blind=0.3)) as blind:
        settings = Settings(data_dir=data.root, hosts=(first.address, blind.address))
        replay_window("network", Subscription(), WINDOW, hosts=settings.parsed_hosts()[:1], data=data)
        job = build_definitions(settings).resolve_job_def(JOB)
        with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.Failure, match="not verified") as failure:
            job.execute_in_process(partition_key=WINDOW.key, instance=instance)
    assert failure.value.allow_retries is False
    assert failure.value.metadata["blind_hosts"].value == blind.address.removeprefix("ws://")


def test_it_tries_again_what_may_pass(data: DataDirectory) -> None:
    job = build_definitions(Settings(data_dir=data.root)).resolve_job_def(JOB)
    policy = job.graph.node_named("network_verify").definition.retry_policy
    assert policy == dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL)


def test_the_settings_reach_it(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Recorder()
    monkeypatch.setattr(verification, "verify_window", asked)
    settings = Settings(
        data_dir=data.root, hosts=("one.example", "two.example"), settle_minutes=7, host_skew_seconds=11
    )
    job = build_definitions(settings).resolve_job_def(JOB)
    assert not job.execute_in_process(partition_key=WINDOW.key, raise_on_error=False).success
    asked.holds(settings, "network", WINDOW)
