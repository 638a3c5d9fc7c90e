"""A run is given up only where nobody listens any more at the address of the code server that began it."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from jetstream_pipeline.orchestration.launcher import WatchedRunLauncher


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a unix socket must be short."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def path() -> Iterator[str]:
    """A unix socket that somebody listens on."""
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("server")
        listening.listen()
        yield "server"


@pytest.fixture
def port() -> Iterator[int]:
    """A TCP port that somebody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


def health(**address: Any) -> tuple[WorkerStatus, str | None]:
    """What is found of a run that the code server at this address began."""
    tags = {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", **address})} if address else {}
    found = WatchedRunLauncher().check_run_worker_health(dg.DagsterRun("job", tags=tags))
    return found.status, found.msg


RUNNING = (WorkerStatus.RUNNING, None)
GONE = (WorkerStatus.NOT_FOUND, "the code server that began the run is gone")


def test_a_run_whose_server_listens_is_running(path: str, port: int) -> None:
    assert health(socket=path) == RUNNING
    assert health(port=port) == RUNNING


def test_a_run_whose_server_does_not_listen_any_more_is_gone() -> None:
    with closing(socket.socket(socket.AF_UNIX)) as left, closing(socket.create_server(("127.0.0.1", 0))) as refusing:
        left.bind("left")
        port = refusing.getsockname()[1]
    assert health(socket="left") == GONE
    assert health(socket="never") == GONE
    assert health(port=port) == GONE


@pytest.mark.parametrize("error", [TimeoutError, BlockingIOError])
def test_a_run_whose_server_is_only_slow_is_running(
    error: type[OSError], path: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any) -> None:
        raise error

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert health(socket=path) == RUNNING
    assert health(port=port) == RUNNING


def test_a_run_that_says_nothing_of_its_server_is_left_alone() -> None:
    assert health() == RUNNING


def test_dagster_is_told_that_it_can_ask() -> None:
    assert WatchedRunLauncher().supports_check_run_worker_health
