"""Dagster's own processes killed at bad moments, and away for hours: nothing is lost, nothing twice, nothing stuck."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from jetstream_pipeline.orchestration.events import pool
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.deployment import Deployment
from jetstream_pipeline_tests.windows import rows_of

NETWORK = Network(rate=1)
LIMIT_SEC = 240.0

pytestmark = pytest.mark.timeout(500)


def hours_ago(first: int, last: int) -> list[Window]:
    now = datetime.now(UTC)
    return [Window.hour(now - timedelta(hours=number)) for number in range(first, last - 1, -1)]


def deployed(stack: ExitStack, folder: Path, first: Window, look_back_hours: int) -> Deployment:
    hosts = [stack.enter_context(running(Simulator(NETWORK))) for _ in range(2)]
    variables = {
        "JETSTREAM_HOSTS": ",".join(host.address for host in hosts),
        "JETSTREAM_FIRST_HOUR": first.key,
        "JETSTREAM_LOOK_BACK_HOURS": str(look_back_hours),
        # The schedule's minute is one that the test does not meet.
        "JETSTREAM_SETTLE_MINUTES": str((datetime.now(UTC).minute + 40) % 60),
    }
    return Deployment(folder / "deployment", variables, {"collections": [], "tables": [], "report": False})


RUN_WORKER, CODE_SERVER = b"spawn_main", b"grpc"


def processes(daemon: subprocess.Popen[bytes], word: bytes) -> Iterator[int]:
    """The processes of the daemon's session whose command has a word."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != daemon.pid:
            try:
                command = (entry / "cmdline").read_bytes()
                session = os.getsid(int(entry.name))
            except OSError:
                continue
            if session == daemon.pid and word in command:
                yield int(entry.name)


def check_whole(deployment: Deployment, windows: list[Window]) -> None:
    """Every window is there, once, with what the network has of it; no run and no slot is left behind."""
    assert deployment.data.lake.whole("network") >= set(windows)
    assert set(deployment.materialized()) >= {window.key for window in windows}
    for window in windows:
        seqs = rows_of(deployment.data.lake.events_path("network", window), ["seq"])["seq"].to_pylist()
        assert seqs == [event.seq for event in NETWORK.events(window.start_us, window.end_us)]
    assert steps(deployment) == (0, 0, 0)


def steps(deployment: Deployment) -> tuple[int, int, int]:
    """How many have a slot of the hosts' pool, wait for one, and have been given one."""
    with deployment.instance() as instance:
        slots = instance.event_log_storage.get_concurrency_info(pool(deployment.stream()))
    return slots.active_slot_count, slots.pending_step_count, slots.assigned_step_count


def at_rest(deployment: Deployment, windows: list[Window]) -> bool:
    unfinished = [run for run in deployment.runs() if not run.is_finished]
    whole = set(deployment.materialized()) >= {window.key for window in windows}
    return whole and not unfinished and not any(steps(deployment))


def test_hours_during_which_the_daemon_was_down_are_there_soon_after_it_is_up_also_when_all_is_killed_meanwhile(
    tmp_path: Path, stack: ExitStack
) -> None:
    windows = hours_ago(8, 2)
    deployment = deployed(stack, tmp_path, windows[0], 36)
    with deployment.daemon():
        deployment.wait(lambda: len(deployment.materialized()) >= 2, LIMIT_SEC)
    with deployment.daemon():
        deployment.wait(lambda: at_rest(deployment, windows), LIMIT_SEC)
    check_whole(deployment, windows)


def test_a_backfill_whose_code_server_is_killed_becomes_whole(tmp_path: Path, stack: ExitStack) -> None:
    """What is queued waits for the next one, which the daemon starts."""
    windows = hours_ago(6, 3)
    deployment = deployed(stack, tmp_path, windows[0], 0)
    deployment.backfill(windows)
    with deployment.daemon() as daemon:
        deployment.wait(lambda: len(deployment.materialized()) > 0, LIMIT_SEC, poll=0.1)
        killed = [os.kill(server, signal.SIGKILL) for server in processes(daemon, CODE_SERVER)]
        assert killed
        deployment.wait(lambda: at_rest(deployment, windows), LIMIT_SEC)
    check_whole(deployment, windows)


def test_a_backfill_over_ranges_one_of_whose_processes_is_killed_becomes_whole(
    tmp_path: Path, stack: ExitStack
) -> None:
    windows = hours_ago(6, 3)
    deployment = deployed(stack, tmp_path, windows[0], 0)
    config = {"first": windows[0].key, "last": windows[-1].key, "windows_per_run": 2}
    deployment.launch("network_backfill", {"ops": {"network_plan": {"config": config}}})
    with deployment.daemon() as daemon:
        deployment.wait(lambda: len(deployment.materialized()) > 0, LIMIT_SEC, poll=0.1)
        for worker in processes(daemon, RUN_WORKER):
            os.kill(worker, signal.SIGKILL)
        deployment.wait(lambda: at_rest(deployment, windows), LIMIT_SEC)
    check_whole(deployment, windows)
    ranges = [run for run in deployment.runs() if "dagster/asset_partition_range_start" in run.tags]
    assert len(ranges) >= 2
    assert any(run.status is dg.DagsterRunStatus.FAILURE for run in ranges), "no run was killed"
