"""Runs spread over workers, each a process of its own: what a dead one had is done by another, a pool holds over all of
them, and what is canceled stays so. With the files of deploy/celery."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from subprocess import Popen
from unittest.mock import patch

import dagster as dg
import pytest
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

from jetstream_pipeline.orchestration.events import pool
from jetstream_pipeline.simulator import Network, Simulator
from jetstream_pipeline.simulator import running as serving
from jetstream_pipeline.simulator.pace import Pace
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests import postgres, redis
from jetstream_pipeline_tests.orchestration.cluster import Cluster, cluster_variables, kill_alone
from jetstream_pipeline_tests.windows import rows_of

NETWORK = Network(rate=1)
LIMIT_SEC = 150.0
SLOTS = 2
"""Fewer than there are workers."""
STARTED, CANCELED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE

AT_WORK = CheckRunHealthResult(WorkerStatus.RUNNING)

pytestmark = pytest.mark.timeout(400)


@dataclass
class Running:
    cluster: Cluster
    host: Simulator
    workers: list[Popen[bytes]]
    redis: str

    def process_of(self, run: dg.DagsterRun) -> int:
        """The process that is at a run."""
        with self.cluster.instance() as instance:
            entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        told = [re.search(r"Started process for run \(pid: (\d+)\)", entry.message) for entry in entries]
        (found,) = [match for match in told if match]
        return int(found[1])

    def steps(self) -> list[tuple[float, float]]:
        """From when to when each step was at work, or thought to be; unix seconds."""
        with self.cluster.instance() as instance:
            records = instance.get_run_records(dg.RunsFilter(job_name="__ASSET_JOB"))
            stats = [(record.end_time, instance.get_run_step_stats(record.dagster_run.run_id)) for record in records]
        return [(step.start_time, step.end_time or end) for end, steps in stats for step in steps]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three workers, and a backfill that has been asked for."""
    pytest.importorskip("dagster_celery", reason="dagster-celery, the extra `celery`, is not installed")
    with ExitStack() as stack:
        database, broker = stack.enter_context(postgres.running()), stack.enter_context(redis.running())
        variables = cluster_variables(database.url(), broker)
        stack.enter_context(patch.dict(os.environ, variables))
        host = stack.enter_context(serving(Simulator(NETWORK, events_per_second=1200)))
        variables |= {
            "JETSTREAM_HOSTS": host.address,
            "JETSTREAM_FIRST_HOUR": hours_ago(12).key,
            "JETSTREAM_LOOK_BACK_HOURS": "0",
            # The schedule's minute is one that the tests do not meet.
            "JETSTREAM_SETTLE_MINUTES": str((datetime.now(UTC).minute + 40) % 60),
        }
        folder = tmp_path_factory.mktemp("cluster") / "deployment"
        cluster = Cluster(folder, variables, {"collections": [], "tables": [], "report": False}, 3)
        with cluster.instance() as instance:
            instance.event_log_storage.set_concurrency_slots(pool(cluster.stream()), SLOTS)
        cluster.backfill(WINDOWS)
        workers = [stack.enter_context(cluster.worker(number)) for number in (1, 2, 3)]
        stack.enter_context(cluster.code_server())
        stack.enter_context(cluster.daemon())
        yield Running(cluster, host, workers, broker)


def hours_ago(number: int) -> Window:
    return Window.hour(datetime.now(UTC) - timedelta(hours=number))


WINDOWS = [hours_ago(number) for number in range(5, 2, -1)]


def test_a_backfill_whose_worker_is_killed_at_work_is_whole_each_window_once_and_never_more_than_the_pool_lets_through(
    running: Running, stack: ExitStack
) -> None:
    cluster = running.cluster
    cluster.wait(lambda: len(cluster.runs(STARTED)) == SLOTS, LIMIT_SEC, poll=0.05)
    victim = running.process_of(cluster.runs(STARTED)[0])
    (worker,) = [worker for worker in running.workers if worker.pid == parent(victim)]
    kill_alone(worker)
    number = running.workers.index(worker)
    running.workers[number] = stack.enter_context(cluster.worker(number + 1))
    cluster.wait(lambda: len(cluster.materialized()) >= len(WINDOWS) and not unfinished(cluster), LIMIT_SEC)
    assert not Path(f"/proc/{victim}").exists()
    assert sorted(cluster.materialized()) == [window.key for window in WINDOWS]
    for window in WINDOWS:
        seqs = rows_of(cluster.data.lake.events_path("network", window), ["seq"])["seq"].to_pylist()
        assert seqs == [event.seq for event in NETWORK.events(window.start_us, window.end_us)]
    assert len(cluster.runs(FAILURE)) == 1
    assert most_at_once(running.steps()) == SLOTS


def test_a_run_is_given_up_only_where_no_worker_says_to_be_at_it_and_what_is_canceled_is_not_begun_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

    from jetstream_pipeline.orchestration import celery_launcher

    cluster, window = running.cluster, hours_ago(10)
    running.host.pace = Pace(20)
    before = len(cluster.runs())
    cluster.launch("network_events", {}, {"dagster/partition": window.key})
    cluster.wait(lambda: bool(cluster.runs(STARTED)), LIMIT_SEC)
    (run,) = cluster.runs(STARTED)
    with cluster.instance() as instance:
        launcher = instance.run_launcher
        assert launcher.check_run_worker_health(run) == AT_WORK
        forget_tasks(running.redis)
        assert launcher.check_run_worker_health(run) == AT_WORK
        now = time.monotonic()
        for tags in ({}, {DAGSTER_CELERY_TASK_ID_TAG: "of-nobody"}):
            alone = instance.create_run_for_job(dg.JobDefinition(name="alone", graph_def=dg.GraphDefinition(name="a")))
            instance.add_run_tags(alone.run_id, tags)
            looks = []
            for later in (0, 40, 50):
                monkeypatch.setattr(celery_launcher, "clock", lambda later=later: now + later)
                looks.append(launcher.check_run_worker_health(alone.with_tags(tags)).status)
            assert looks == [WorkerStatus.RUNNING, WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]
            instance.delete_run(alone.run_id)
        assert launcher.terminate(run.run_id)
        cluster.wait(lambda: not unfinished(cluster), LIMIT_SEC)
        assert launcher.check_run_worker_health(run) == AT_WORK
        assert not launcher.terminate(run.run_id)
    assert [run.run_id for run in cluster.runs(CANCELED)] == [run.run_id]
    assert len(cluster.runs()) == before + 1


def test_a_worker_without_a_cluster_says_what_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_celery", reason="dagster-celery, the extra `celery`, is not installed")
    command = [Path(sys.executable).parent / "celery", "-A", "jetstream_pipeline.orchestration.celery_worker", "worker"]
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    wanted = {
        "": "DAGSTER_HOME names no folder with a dagster.yaml; set it to that of deploy/celery",
        str(tmp_path): f"{tmp_path}/dagster.yaml launches no runs with Celery; take the one of deploy/celery",
    }
    for home, message in wanted.items():
        monkeypatch.setenv("DAGSTER_HOME", home)
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (told.returncode, told.stdout, told.stderr) == (2, "", f"Error: {message}\n")


def unfinished(cluster: Cluster) -> list[dg.DagsterRun]:
    return [run for run in cluster.runs() if not run.is_finished]


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def forget_tasks(address: str) -> None:
    from redis import Redis

    with Redis.from_url(address) as client:
        client.delete(*client.keys("celery-task-meta-*"))


def most_at_once(spans: list[tuple[float, float]]) -> int:
    changes = [(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans]
    return max(accumulate(change for _, change in sorted(changes)))
