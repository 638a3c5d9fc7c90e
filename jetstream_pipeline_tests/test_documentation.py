"""Every example of the documentation runs, against simulated networks; every option and name is in it."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import yaml

from jetstream_pipeline import JetstreamConnector, JetstreamRecord, Queue
from jetstream_pipeline.cli.doctor import doctor
from jetstream_pipeline.cli.metrics import metrics
from jetstream_pipeline.cli.prune_runs import prune_runs
from jetstream_pipeline.cli.quarantine import quarantine
from jetstream_pipeline.cli.queue import queue
from jetstream_pipeline.cli.replay import replay
from jetstream_pipeline.cli.stream import stream
from jetstream_pipeline.cli.verify import verify
from jetstream_pipeline.connector.statistics import Statistics
from jetstream_pipeline.doctor.examine import EXAMINATIONS
from jetstream_pipeline.doctor.finding import Severity
from jetstream_pipeline.jetstream.hosts import SHORT_NAMES
from jetstream_pipeline.metrics.connector import ConnectorCollector
from jetstream_pipeline.metrics.families import LakeCollector
from jetstream_pipeline.metrics.lake import LakeReadings
from jetstream_pipeline.orchestration.ad_hoc import AdHocConfig
from jetstream_pipeline.orchestration.backfills import BackfillConfig
from jetstream_pipeline.orchestration.build import stream_definitions
from jetstream_pipeline.orchestration.checks import FRESHNESS, HISTORY, check_keys
from jetstream_pipeline.orchestration.component import StreamComponent
from jetstream_pipeline.orchestration.declaration import QueueDeclaration, StreamDeclaration
from jetstream_pipeline.orchestration.events import events_key
from jetstream_pipeline.settings import Settings, described
from jetstream_pipeline.simulator import Network, Simulator, Witness, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import QUARANTINE_SCHEMA
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.warehouse.views import windows_columns
from jetstream_pipeline.window import Window

_SHORTENED = ("jetstream_newest_window", "jetstream_connector")
_DOCS = Path(__file__).parents[1] / "docs"
_PAGES = ("connector.md", "windows.md", "dagster.md", "operations.md")
_CONNECTOR, _WINDOWS, _DAGSTER, _OPERATIONS = ((_DOCS / name).read_text() for name in _PAGES)


def serving(stack: ExitStack, *simulators: Simulator) -> list[str]:
    return [stack.enter_context(running(simulator)).address for simulator in simulators]


def examples(page: str, language: str) -> list[str]:
    """But for the servers, which are running."""
    found = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [text for text in found if " simulate " not in text]


def yesterday() -> datetime:
    """The day that readers are told to put in for 2026-11-23."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


def run(commands: list[list[str]], folder: Path, words: dict[str, str]) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(folder / "data"), "PATH": path}
    printed = ""
    for command in commands:
        for word, meant in words.items():
            command[-1] = command[-1].replace(word, meant)
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{command[-1]}\n{result.stdout}\n{result.stderr}"
        if command[0] == sys.executable:
            assert result.stderr == "", command[-1]
        printed += result.stdout
    return printed


def test_every_example_of_the_connector_runs_one_after_the_other(stack: ExitStack, tmp_path: Path) -> None:
    (address,) = serving(stack, Simulator(Network(seed=15, rate=2), lookback=timedelta(days=2)))
    shell, python = examples(_CONNECTOR, "sh"), examples(_CONNECTOR, "python")
    assert len(shell) == 2
    assert len(python) == 5
    commands = [["bash", "-euc", text] for text in shell] + [[sys.executable, "-c", text] for text in python]
    words = {"ws://127.0.0.1:6008": address, "2026-11-23-": f"{yesterday():%Y-%m-%d}-"}
    run(commands, tmp_path, words)
    assert (tmp_path / "events.ndjson").read_text().count("\n") == 100


def test_every_example_of_windows_runs_one_after_the_other(stack: ExitStack, tmp_path: Path) -> None:
    network, late = Network(seed=15, rate=2), Witness(offset=timedelta(seconds=9))
    day = yesterday()
    window, old = (Window.hour(day + timedelta(hours=hour)) for hour in (20, 16))
    archiving = Simulator(network, lookback=timedelta(hours=3), archive_since=old.start - timedelta(minutes=30))
    addresses = serving(stack, Simulator(network, blind=0.2), Simulator(network, witness=late), archiving)
    shell = examples(_WINDOWS, "sh")
    assert len(shell) == 6
    words = {f"ws://127.0.0.1:{port}": address for port, address in zip((6008, 6009, 6010), addresses, strict=True)}
    words["2026-11-23"] = f"{day:%Y-%m-%d}"
    printed = run([["bash", "-euc", text] for text in shell], tmp_path, words)
    assert f"{window}  complete  0 events" in printed
    assert f"{window}  verified" in printed
    assert "blind: " in printed
    assert f"{old}  complete" in printed
    assert "'first_seq': " in printed


def options(command: click.Command) -> list[str]:
    return [name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts]


def test_every_option_and_every_host_is_named() -> None:
    names = options(stream) + list(queue.commands) + list(SHORT_NAMES)
    for command in queue.commands.values():
        names += options(command)
    assert [name for name in names if name not in _CONNECTOR] == []


def test_every_state_column_and_option_of_windows_is_named() -> None:
    names = [*windows_columns(), *WindowState, *QUARANTINE_SCHEMA.names, *options(verify), *quarantine.commands]
    names += [name for name in options(replay) if name in ("--start", "--end", "--stream", "--replace-history")]
    shorter = {"--host": "-i", "--tables": "--no-tables"}
    assert [name for name in names if shorter.get(name, name) not in _WINDOWS] == []


def test_every_public_name_is_named() -> None:
    public = [name for kind in (JetstreamConnector, Queue) for name in vars(kind) if not name.startswith("_")]
    public += [*Statistics.model_fields, *JetstreamRecord.model_fields, "from_json", "to_json", "uri", "collection"]
    missing = [name for name in public if f"`{name}" not in _CONNECTOR and f".{name}(" not in _CONNECTOR]
    assert not missing


def test_every_field_check_job_and_variable_of_dagster_is_named() -> None:
    stream = StreamDeclaration(name="network").stream(Settings(), _DOCS)
    definitions = stream_definitions(stream)
    names = [*StreamDeclaration.model_fields, *QueueDeclaration.model_fields]
    names += [
        *BackfillConfig.model_fields,
        *(key.name for key in check_keys(events_key(stream))),
        FRESHNESS,
        HISTORY,
        "ad_hoc_replay",
    ]
    names += ["ad_hoc_replay", *AdHocConfig.model_fields]
    names += [name for name, _, _ in described() if "ALERT" in name or "SMTP" in name]
    scheduled = [*(definitions.schedules or []), *(definitions.sensors or [])]
    names += [one.name.replace("network_", "<stream>_", 1) for one in scheduled]
    missing = [name for name in names if f"`{name}`" not in _DAGSTER]
    assert missing == ["<stream>_backfill_runs"]


def test_the_declared_stream_of_the_example_is_one(tmp_path: Path) -> None:
    (text,) = examples(_DAGSTER, "yaml")
    declared = yaml.load(text, yaml.BaseLoader)
    assert declared["type"] == f"{StreamComponent.__module__}.{StreamComponent.__name__}"
    stream = StreamDeclaration(**declared["attributes"]).stream(Settings(data_dir=tmp_path), tmp_path)
    assert [feed.queue for feed in stream.feeds] == ["newsroom_posts"]


def test_every_examination_option_and_figure_of_operations_is_named(tmp_path: Path) -> None:
    names = [
        *EXAMINATIONS,
        *Severity,
        *(name for command in (doctor, prune_runs, metrics) for name in options(command)),
    ]
    assert [name for name in names if name not in _OPERATIONS] == []
    data = DataDirectory(tmp_path)
    Queue("jobs", create_new_queue=True, data_dir=tmp_path)
    families = [*LakeCollector(LakeReadings(data)).collect(), *ConnectorCollector().collect()]
    figures = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    shortened = {f"{begin}_{end}" for begin in _SHORTENED for end in re.findall(r"…_([a-z_]+)", _OPERATIONS)}
    assert [name for name in figures if name not in _OPERATIONS and name not in shortened] == []


def test_the_python_of_operations_runs(tmp_path: Path) -> None:
    (text,) = examples(_OPERATIONS, "python")
    assert run([[sys.executable, "-c", text]], tmp_path, {}).strip().isdigit()


def test_every_picture_of_the_documentation_is_there() -> None:
    for page in _DOCS.glob("*.md"):
        pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
        assert [name for name in pictures if not (_DOCS / name).is_file()] == []
