"""The events asset in a real Dagster instance, against a simulated host."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration import events
from jetstream_pipeline.orchestration.build import build_definitions
from jetstream_pipeline.orchestration.events import window_metadata
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import Proof, WindowState, WindowSummary, read_summary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.arguments import Recorder

NETWORK = Network(rate=4)
WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
JOB = "network_events"


def settings(tmp_path: Path, host: str) -> Settings:
    return Settings(data_dir=tmp_path, hosts=(host,))


def test_a_partition_is_materialized_with_what_one_wants_to_know(tmp_path: Path) -> None:
    with running(Simulator(NETWORK)) as simulator, dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(settings(tmp_path, simulator.address)).resolve_job_def(JOB)
        result = job.execute_in_process(partition_key=WINDOW.key, instance=instance)
        (materialization,) = result.asset_materializations_for_node("network__events")
    path = DataDirectory(tmp_path).lake.events_path("network", WINDOW)
    summary = read_summary(path)
    assert summary.events > 0
    assert {name: value.value for name, value in materialization.metadata.items()} == {
        "dagster/partition_row_count": summary.events,
        "state": "complete",
        "events_per_second": round(summary.events_per_second, 1),
        "host": simulator.address.removeprefix("ws://"),
        "counts_by_kind": summary.counts_by_kind,
        "counts_by_collection": summary.counts_by_collection,
        "connections": 1,
        "repeats": 0,
        "resumptions": 0,
        "quarantined": 0,
        "repaired": 0,
        "start_shown_by": summary.proof.start_shown_by,
        "end_shown_by": summary.proof.end_shown_by,
        "first_time": summary.first_time.timestamp(),
        "last_time": summary.last_time.timestamp(),
        "position": summary.proof.position.timestamp(),
        "path": str(path),
        "bytes": path.stat().st_size,
    }


def test_an_incomplete_window_fails_the_run_and_is_not_tried_again(tmp_path: Path) -> None:
    lookback = datetime.now(UTC) - WINDOW.start - timedelta(minutes=30)
    with running(Simulator(NETWORK, lookback=lookback)) as simulator:
        job = build_definitions(settings(tmp_path, simulator.address)).resolve_job_def(JOB)
        with pytest.raises(dg.Failure, match="truncated") as failure:
            job.execute_in_process(partition_key=WINDOW.key)
    assert failure.value.allow_retries is False


def test_what_went_wrong_on_the_way_is_counted_in_the_metadata() -> None:
    proof = Proof(
        cursor=0,
        start_shown_by=None,
        end_shown_by=None,
        position=None,
        connections=("cut", "cut", "closed"),
        clamps=(),
        repeats=4,
        resumptions=5,
    )
    summary = WindowSummary(
        events=0,
        first_time=None,
        last_time=None,
        counts_by_kind={},
        counts_by_collection={},
        stream="network",
        start=WINDOW.start,
        end=WINDOW.end,
        state=WindowState.UNPROVEN,
        reason="silence",
        fingerprint="",
        host="",
        wire="",
        proof=proof,
        quarantined=6,
        repaired=7,
        seconds=0.0,
        finished_at=WINDOW.end,
        version="0",
    )
    metadata = {name: value.value for name, value in window_metadata(summary).items()}
    assert {name: metadata[name] for name in ("connections", "repeats", "resumptions", "quarantined", "repaired")} == {
        "connections": 3,
        "repeats": 4,
        "resumptions": 5,
        "quarantined": 6,
        "repaired": 7,
    }


def test_it_tries_again_what_may_pass(tmp_path: Path) -> None:
    job = build_definitions(Settings(data_dir=tmp_path)).resolve_job_def(JOB)
    policy = job.graph.node_named("network__events").definition.retry_policy
    assert policy == dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL)


def test_the_settings_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Recorder()
    monkeypatch.setattr(events, "replay_window", asked)
    settings = Settings(
        data_dir=tmp_path,
        hosts=("one.example", "two.example"),
        collections=("app.bsky.graph.*",),
        settle_minutes=7,
        host_skew_seconds=11,
    )
    job = build_definitions(settings).resolve_job_def(JOB)
    assert not job.execute_in_process(partition_key=WINDOW.key, raise_on_error=False).success
    asked.holds(settings, "network", Subscription(("app.bsky.graph.*",)), WINDOW)


def test_the_definitions_are_valid_and_quick_to_load() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
