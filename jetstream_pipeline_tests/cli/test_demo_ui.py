"""The demonstration's UI: it is refused where its port is taken, and ends where what it stands on ends."""

import signal
import socket
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest

from jetstream_pipeline.demo.backfill import Home
from jetstream_pipeline.demo.programs import DemoError
from jetstream_pipeline.demo.ui import free_port, served, watch
from jetstream_pipeline_tests.cli.test_demo import COMMAND, none_left


def test_a_port_that_is_taken_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    earlier = tmp_path / "data" / "demo" / "of an earlier run"
    earlier.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [*COMMAND, "--ui", "--port", str(port)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen on port {port} of 127.0.0.1" in done.stderr
    assert earlier.exists()


def test_whichever_program_dies_is_named_and_the_others_end(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "dagster", {"JETSTREAM_DATA_DIR": str(tmp_path)})
    port = free_port(0)
    with home.daemon() as daemon, served(home, port) as server:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/server_info")
        assert connection.getresponse().status == 200
        connection.close()
        for program in (daemon, server):
            program.process.send_signal(signal.SIGKILL)
            program.process.wait()
            with pytest.raises(DemoError, match=f"Dagster's {program.name} ended; see {program.log}"):
                watch([program])
    assert none_left(tmp_path)
