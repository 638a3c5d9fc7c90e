"""The command `metrics`, and `stream --metrics`, as Prometheus meets them: in processes of their own, over HTTP."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.metrics import extra
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.cli.commands import run
from jetstream_pipeline_tests.metrics.scraping import samples, scrape
from jetstream_pipeline_tests.metrics.test_lake import hours_ago
from jetstream_pipeline_tests.quality.summaries import put, summary

_ADDRESS = re.compile(r"metrics at http://127\.0\.0\.1:(\d+)/metrics")


@contextmanager
def started(data: DataDirectory, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A command that serves metrics, and its port. It is asked to end, and does."""
    environment = {**os.environ, "JETSTREAM_DATA_DIR": str(data.root)}
    program = [sys.executable, "-m", "jetstream_pipeline", *arguments]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr
            yield process, _port(process.stderr)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def _port(told: IO[str]) -> int:
    line = told.readline()
    found = _ADDRESS.match(line)
    assert found, line
    return int(found[1])


def test_the_lake_is_served_until_it_is_asked_to_end(data: DataDirectory) -> None:
    put(data.lake.events_path("small", hours_ago(2)), summary(hours_ago(2), 100))
    with started(data, "metrics", "--listen", "127.0.0.1:0") as (_, port):
        told = samples(scrape(port))
    assert told['jetstream_lake_events{stream="small"}'] == 100
    assert told['jetstream_missing_windows{stream="network"}'] > 0
    assert told["process_resident_memory_bytes"] > 0


def test_a_stream_is_served_while_it_runs(data: DataDirectory, stack: ExitStack) -> None:
    address = stack.enter_context(running(Simulator(Network(rate=50)))).address
    with started(data, "stream", "-n", "0", "-i", address, "--metrics", "127.0.0.1:0", "--quiet") as (_, port):
        until = time.monotonic() + 30
        while not (told := samples(scrape(port))).get('jetstream_connector_events_total{kind="commit"}'):
            assert time.monotonic() < until
            time.sleep(0.1)
    assert told["jetstream_connector_received_bytes_total"] > 0


def test_without_the_library_the_extra_is_named(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda _: None)
    for arguments in (["metrics"], ["stream", "--metrics", "127.0.0.1:0"]):
        error = run(data, *arguments).exception
        assert isinstance(error, InvalidInput)
        assert str(error) == "metrics take prometheus_client: pip install 'jetstream_pipeline[metrics]'"


def test_an_address_that_is_none_is_told(data: DataDirectory) -> None:
    assert isinstance(run(data, "metrics", "--listen", "9464").exception, InvalidInput)
