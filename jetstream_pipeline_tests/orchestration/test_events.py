"""The events asset in a real Dagster instance, against a simulated host."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from jetstream_pipeline.orchestration.build import build_definitions
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.window import Window

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
    metadata = {name: value.value for name, value in materialization.metadata.items()}
    assert metadata["state"] == "complete"
    assert metadata["dagster/partition_row_count"] == sum(metadata["counts_by_kind"].values()) > 0
    assert Path(metadata["path"]).stat().st_size == metadata["bytes"]
    assert WINDOW.start.timestamp() <= metadata["first_time"] < metadata["last_time"] < WINDOW.end.timestamp()


def test_an_incomplete_window_fails_the_run_and_is_not_tried_again(tmp_path: Path) -> None:
    lookback = datetime.now(UTC) - WINDOW.start - timedelta(minutes=30)
    with running(Simulator(NETWORK, lookback=lookback)) as simulator:
        job = build_definitions(settings(tmp_path, simulator.address)).resolve_job_def(JOB)
        with pytest.raises(dg.Failure, match="truncated") as failure:
            job.execute_in_process(partition_key=WINDOW.key)
    assert failure.value.allow_retries is False


def test_the_definitions_are_valid_and_quick_to_load() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
