"""A real cluster on loopback, from the files of deploy/celery: Dagster on Postgres and Redis, a code server, a daemon,
and Celery's workers, which can be killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit

import yaml

from jetstream_pipeline_tests.orchestration.deployment import LOCATION, MODULE, Deployment, changed

DEPLOY = Path(__file__).parents[2] / "deploy"
START_SEC = 90.0


def cluster_variables(postgres: str, redis: str) -> dict[str, str]:
    """What the machines of the cluster have in their environment, beside the pipeline's own."""
    database = urlsplit(postgres)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    return {
        "DAGSTER_POSTGRES_HOST": database.hostname or "",
        "DAGSTER_POSTGRES_PORT": str(database.port),
        "DAGSTER_POSTGRES_USER": database.username or "",
        "DAGSTER_POSTGRES_PASSWORD": database.password or "",
        "DAGSTER_POSTGRES_DB": database.path.lstrip("/"),
        "DAGSTER_CODE_SERVER_HOST": "127.0.0.1",
        "DAGSTER_CODE_SERVER_PORT": str(port),
        "CELERY_BROKER_URL": redis,
        "CELERY_RESULT_BACKEND": redis,
    }


@dataclass
class Cluster(Deployment):
    """The environment of this process has the cluster's variables. `soon`: dead workers' runs and slots are looked for
    more often than in earnest."""

    soon: bool = True
    own_disks: bool = False
    """Whether each worker has a data directory of its own, as on a machine of its own."""

    def settings(self) -> str:
        text = (DEPLOY / "celery" / "dagster.yaml").read_text()
        text = changed(text, max_concurrent_runs=(4, self.concurrent))
        if self.soon:
            text = changed(text, free_slots_after_run_end_seconds=(20, 2), poll_interval_seconds=(10, 1))
        return text

    def location(self) -> Mapping[str, object]:
        (only,) = yaml.safe_load((DEPLOY / "celery" / "workspace.yaml").read_text())["load_from"]
        assert only["grpc_server"]["location_name"] == LOCATION
        return only

    @contextmanager
    def code_server(self) -> Iterator[Popen[bytes]]:
        port = self.variables["DAGSTER_CODE_SERVER_PORT"]
        arguments = ("code-server", "start", "-f", MODULE, "--location-name", LOCATION, "-h", "127.0.0.1", "-p", port)
        with self.program("dagster", *arguments, log="code-server") as process:
            self.wait(lambda: _listens(int(port)), START_SEC, poll=0.1)
            yield process

    def worker(self, number: int) -> AbstractContextManager[Popen[bytes]]:
        """Ready some seconds later; its name is its own also where it is started again."""
        app = ("-A", "jetstream_pipeline.orchestration.celery_worker")
        options = ("worker", "--concurrency", 1, "--loglevel", "INFO", "-n", f"worker-{number}@%h")
        own = {"JETSTREAM_DATA_DIR": str(self.folder / f"disk-{number}")} if self.own_disks else {}
        return self.program("celery", *app, *options, log=f"worker-{number}", **own)


def kill_alone(process: Popen[bytes]) -> None:
    """SIGKILL to a process, and not to those that it began."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
