"""A new stream by `dg scaffold defs`: what it writes is right as it stands, and with everything that it offers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jetstream_pipeline.orchestration.declaration import StreamDeclaration
from jetstream_pipeline_tests.orchestration.projects import TYPE

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project, in which a stream `research` was scaffolded."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "jetstream_pipeline", folder / "jetstream_pipeline")
    collections = ("--collections", "app.bsky.graph.follow", "--collections", "app.bsky.feed.*")
    scaffolded = run(folder, "dg", "scaffold", "defs", TYPE, "research", *collections)
    assert scaffolded.returncode == 0, scaffolded.stderr
    return folder


def run(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the virtual environment, by which the copy is imported."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "JETSTREAM_DATA_DIR": str(folder / "data"),
        "DAGSTER_HOME": "",
        "NO_COLOR": "1",
    }
    path = BIN / command
    return subprocess.run(
        [str(path), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def file_of(project: Path) -> Path:
    return project / "jetstream_pipeline" / "defs" / "research" / "defs.yaml"


def jobs_of(project: Path) -> list[str]:
    """The jobs of everything that is declared in the copy."""
    script = "from jetstream_pipeline.definitions import defs; print(*sorted(job.name for job in defs.jobs))"
    result = run(project, "python", "-c", script)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_what_it_writes_is_a_stream(project: Path) -> None:
    declared = yaml.safe_load(file_of(project).read_text())
    assert declared == {
        "type": TYPE,
        "attributes": {"name": "research", "collections": ["app.bsky.graph.follow", "app.bsky.feed.*"]},
    }
    checked = run(project, "dg", "check", "yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {"network_events", "research_events"} <= set(jobs_of(project))


def test_everything_that_it_offers_is_right_too(project: Path) -> None:
    path = file_of(project)
    as_written = path.read_text()
    path.write_text(re.sub(r"^  # ", "  ", as_written, flags=re.MULTILINE))
    dids = path.with_name("dids.txt")
    dids.write_text("did:plc:z72i7hdynmk6r22z27h6tvur\n")
    try:
        assert set(yaml.safe_load(path.read_text())["attributes"]) == set(StreamDeclaration.model_fields)
        checked = run(project, "dg", "check", "yaml")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert {"research_events", "research_research_queue", "research_tables"} <= set(jobs_of(project))
        assert "research_hourly_report" not in jobs_of(project)
    finally:
        path.write_text(as_written)
        dids.unlink()


def test_the_command_that_checks_it_names_what_is_wrong_in_one_line(project: Path) -> None:
    path = file_of(project)
    as_written = path.read_text()
    path.write_text(as_written + "  wire: v3\n")
    try:
        checked = run(project, "dg", "check", "defs")
    finally:
        path.write_text(as_written)
    assert checked.returncode != 0
    line = as_written.count("\n") + 1
    assert f"{path}:{line}: wire: 'v3' is not a wire; write v1, v2\n" in checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Research"], "'Research' cannot name a stream"),
        (["ad_hoc_mine"], "names that begin with ad_hoc_"),
        (["mine", "--collections", "posts"], "'posts' is not a collection"),
    ],
)
def test_what_cannot_be_a_stream_is_not_written(project: Path, arguments: list[str], words: str) -> None:
    refused = run(project, "dg", "scaffold", "defs", TYPE, *arguments)
    assert refused.returncode != 0
    assert words in refused.stderr.splitlines()[-1]
    assert not (project / "jetstream_pipeline" / "defs" / arguments[0]).exists()


def test_the_name_of_a_stream_that_there_is_is_refused(project: Path) -> None:
    again = run(project, "dg", "scaffold", "defs", TYPE, "network")
    assert again.returncode != 0
    assert "already exists" in again.stdout + again.stderr
