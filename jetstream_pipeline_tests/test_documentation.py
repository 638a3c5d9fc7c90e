"""Every example of the documentation runs, against a simulated network; every option and name is in it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from jetstream_pipeline import JetstreamConnector, JetstreamRecord, Queue
from jetstream_pipeline.cli.queue import queue
from jetstream_pipeline.cli.stream import stream
from jetstream_pipeline.connector.statistics import Statistics
from jetstream_pipeline.jetstream.hosts import SHORT_NAMES
from jetstream_pipeline.simulator import Network, Simulator, running

_PAGE = (Path(__file__).parents[1] / "docs" / "connector.md").read_text()
_ADDRESS = "ws://127.0.0.1:6008"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running(Simulator(Network(seed=15, rate=20))) as simulator:
        yield simulator


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)


def test_every_example_runs_one_after_the_other(simulator: Simulator, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    words = {
        _ADDRESS: simulator.address,
        "2026-11-23-12:00:00": f"{now - timedelta(hours=2):%Y-%m-%d-%H:%M:%S}",
        "2026-11-23-13:00:00": f"{now - timedelta(hours=1):%Y-%m-%d-%H:%M:%S}",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path / "data"), "PATH": path}
    shell = [text for text in examples("sh") if " simulate " not in text]
    python = examples("python")
    assert len(shell) == 2
    assert len(python) == 5
    commands = [["bash", "-euc", text] for text in shell] + [[sys.executable, "-c", text] for text in python]
    for command in commands:
        for word, meant in words.items():
            command[-1] = command[-1].replace(word, meant)
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{command[-1]}\n{result.stderr}"
    assert (tmp_path / "events.ndjson").read_text().count("\n") == 100


def options(command: click.Command) -> list[str]:
    return [name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts]


def test_every_option_and_every_host_is_named() -> None:
    names = options(stream) + list(queue.commands) + list(SHORT_NAMES)
    for command in queue.commands.values():
        names += options(command)
    missing = [name for name in names if name not in _PAGE]
    assert not missing


def test_every_public_name_is_named() -> None:
    public = [name for kind in (JetstreamConnector, Queue) for name in vars(kind) if not name.startswith("_")]
    public += [*Statistics.model_fields, *JetstreamRecord.model_fields, "from_json", "to_json", "uri", "collection"]
    missing = [name for name in public if f"`{name}" not in _PAGE and f".{name}(" not in _PAGE]
    assert not missing
