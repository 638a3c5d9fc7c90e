"""What Dagster loads is valid, quick to load, and made of modules that stand for themselves."""

import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jetstream_pipeline

ROOT = Path(__file__).parents[2]
MODULES = [one.name for one in pkgutil.walk_packages(jetstream_pipeline.__path__, "jetstream_pipeline.")]
WITH_DAGSTER = (
    "jetstream_pipeline.orchestration",
    "jetstream_pipeline.definitions",
    "jetstream_pipeline.demo",
    "jetstream_pipeline.cli.demo",
    "jetstream_pipeline.cli.doctor",
    "jetstream_pipeline.cli.metrics",
    "jetstream_pipeline.cli.prune_runs",
)
COMMANDS = (
    "jetstream_pipeline.__main__",
    "jetstream_pipeline.jetstream_cli",
    "jetstream_pipeline.orchestration.celery_worker",
)
"""What does something when it is imported."""


def run(folder: Path, *command: str, below: Path = ROOT) -> str:
    """What a fresh interpreter in `below` prints, whose data lies in `folder`."""
    result = subprocess.run(
        [sys.executable, *command],
        cwd=below,
        env=os.environ | {"JETSTREAM_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def core() -> list[str]:
    return [name for name in MODULES if not name.startswith(WITH_DAGSTER) and name not in COMMANDS]


def test_the_definitions_are_valid(tmp_path: Path) -> None:
    run(tmp_path, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml")
    assert list(tmp_path.iterdir()) == []


_JOBS = """
from jetstream_pipeline.definitions import defs
print(*[job.name for job in defs.resolve_all_job_defs()])
"""


def test_there_are_the_jobs_of_the_streams_and_the_one_that_needs_none(tmp_path: Path) -> None:
    assert {"network_events", "ad_hoc_replay"} < set(run(tmp_path, "-c", _JOBS).split())


def test_they_load_from_a_package_that_is_installed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "site-packages"
    shutil.copytree(ROOT / "jetstream_pipeline", packages / "jetstream_pipeline")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    where = "import jetstream_pipeline\nprint(jetstream_pipeline.__file__)"
    place, *jobs = run(tmp_path, "-W", "error::Warning:dagster", "-c", f"{where}{_JOBS}", below=tmp_path).split()
    assert place.startswith(str(packages))
    assert {"network_events", "ad_hoc_replay"} < set(jobs)


_LOAD = """
import time
began = time.process_time()
import dagster
between = time.process_time()
import jetstream_pipeline.definitions
print((time.process_time() - between) / (between - began))
"""
"""The processor's time that the definitions take beyond Dagster, as a multiple of what Dagster itself takes: others who
keep the machine busy slow down both."""


def test_the_definitions_load_in_a_few_times_what_dagster_takes(tmp_path: Path) -> None:
    """One of a few."""
    assert any(float(run(tmp_path, "-c", _LOAD)) < 4 for _ in range(3))


_ALONE = """
import gc, os, sys
import dagster, duckdb, httpx2, matplotlib, msgspec, numpy, pyarrow.compute, pyarrow.parquet, pydantic_settings
import rich.table, websockets.asyncio.client, zstandard
gc.disable()  # It would copy into each fork all that it looks at.
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            __import__(name)
        except BaseException as error:
            print(f"{name}: {error!r}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the interpreters here are forks of one that has only others' code")
def test_each_module_can_be_imported_first(tmp_path: Path) -> None:
    assert run(tmp_path, "-c", _ALONE, *(name for name in MODULES if name not in COMMANDS)) == ""


_WITHOUT = """
import sys
for name in sys.argv[1:]:
    __import__(name)
print(*[name for name in sys.modules if name.split(".")[0].startswith("dagster")])
"""


def test_the_core_knows_nothing_of_dagster(tmp_path: Path) -> None:
    assert "jetstream_pipeline.streams.stream" in core()
    assert run(tmp_path, "-c", _WITHOUT, *core()).split() == []
