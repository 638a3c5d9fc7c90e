"""Dagster's run launcher, which can also tell that a run's process is gone.

Dagster notices by itself when a run dies under a code server that lives. When both died (a reboot, a kill of all) the
run would stay started for ever, keep its place in its pool, and its window would never be asked for again.
"""

import json
import socket

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG

_TIMEOUT_SEC = 5.0


class WatchedRunLauncher(DefaultRunLauncher):
    """Runs in processes of the code server; to be named in dagster.yaml, with `run_monitoring` enabled."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Not found where the code server that began the run is gone; otherwise the server itself watches it.

        A run may outlive its server: it is given up all the same, and whoever takes its place waits for the window.
        """
        address = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        if not address or _answers(address.get("socket"), address.get("host"), address.get("port")):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server that began the run is gone")


def _answers(path: str | None, host: str | None, port: int | None) -> bool:
    """Whether anybody listens there. One that is only slow does."""
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_SEC)
        try:
            connection.connect(path or (host, port))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True
