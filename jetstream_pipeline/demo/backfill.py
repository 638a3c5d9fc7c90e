"""A Dagster of its own for a while: its home, its programs, one backfill. What the runs do is `orchestration`'s."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import dagster as dg

from jetstream_pipeline.demo.programs import DemoError, Program, started
from jetstream_pipeline.window import Window

_WORKSPACE = """load_from:
  - python_module:
      module_name: jetstream_pipeline.definitions
      location_name: jetstream_pipeline
"""
_POLL_SEC = 1.0

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Home:
    """A Dagster home with the pipeline's definitions, and the variables that its processes see."""

    folder: Path
    variables: Mapping[str, str]

    @classmethod
    def create(cls, folder: Path, variables: Mapping[str, str]) -> Home:
        folder.mkdir(parents=True)
        settings = resources.files("jetstream_pipeline.orchestration") / "dagster.yaml"
        (folder / "dagster.yaml").write_text(settings.read_text())
        (folder / "workspace.yaml").write_text(_WORKSPACE)
        return cls(folder, {**os.environ, **variables, "DAGSTER_HOME": str(folder)})

    def _command(self, program: str, *arguments: str) -> list[str]:
        beside = Path(sys.executable).parent / program
        found = str(beside) if beside.exists() else shutil.which(program)
        if found is None:
            raise DemoError(f"there is no {program} beside {sys.executable}; install the package with its dependencies")
        return [found, *arguments, "-w", str(self.folder / "workspace.yaml")]

    def request_backfill(self, job: str, windows: Sequence[Window]) -> None:
        keys = ",".join(window.key for window in windows)
        command = self._command("dagster", "job", "backfill", "-j", job, "--partitions", keys, "--noprompt")
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"Dagster refused the backfill: {(done.stderr or done.stdout).strip().splitlines()[-1]}")

    def daemon(self) -> AbstractContextManager[Program]:
        """Dagster's daemon for as long as the body runs."""
        return started("daemon", self._command("dagster-daemon", "run"), self.variables, self.folder / "daemon.log")

    def web_server(self, port: int) -> AbstractContextManager[Program]:
        """Dagster's UI on loopback for as long as the body runs. It takes seconds until it answers."""
        command = self._command("dagster-webserver", "--host", LOOPBACK, "--port", str(port))
        return started("web server", command, self.variables, self.folder / "webserver.log")

    def follow(self, daemon: Program, jobs: Sequence[str], count: int, limit: float) -> Iterator[str]:
        """Each change of the jobs' runs in words, until `count` runs of the last job have succeeded.

        DemoError where a run fails, the daemon ends, or `limit` seconds pass without a change.
        """
        until = time.monotonic() + limit
        told = ""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            while True:
                runs = {job: _runs(instance, job) for job in jobs}
                now = "; ".join(f"{job}: {_states(states)}" for job, states in runs.items())
                if now != told:
                    told, until = now, time.monotonic() + limit
                    yield now
                if runs[jobs[-1]]["SUCCESS"] >= count:
                    return
                if any(states["FAILURE"] for states in runs.values()):
                    raise DemoError(f"a run of Dagster's failed ({now}); see {daemon.log}")
                daemon.check()
                if time.monotonic() > until:
                    raise DemoError(f"nothing has changed for {limit:.0f} s ({now}); see {daemon.log}")
                time.sleep(_POLL_SEC)


def _runs(instance: dg.DagsterInstance, job: str) -> Counter[str]:
    return Counter(run.status.value for run in instance.get_runs(dg.RunsFilter(job_name=job)))


def _states(runs: Counter[str]) -> str:
    return ", ".join(f"{count} {state.lower().replace('_', ' ')}" for state, count in sorted(runs.items())) or "waiting"
