"""Dagster's part of `doctor`: its home, its settings, its daemon, and the runs that failed. Only looked at where
DAGSTER_HOME is set; nothing is written, and no home is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._daemon.controller import get_daemon_statuses

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, problem, warning
from jetstream_pipeline.doctor.words import count, some, span

_HOME = "DAGSTER_HOME"
_FILE = "dagster.yaml"
_WATCHING = ("WatchedRunLauncher", "WatchedCeleryRunLauncher", "K8sRunLauncher")
"""Launchers that can tell that a run was killed. Others let it keep its place, and its window is never asked for
again."""
_DAY = timedelta(days=1)
_MOST = 1000


def examine_dagster(case: Case) -> Iterator[Finding]:
    named = case.environment.get(_HOME, "")
    if not named:
        yield ok(f"{_HOME} is not set: Dagster was not looked at (make run sets it to data/dagster)")
        return
    home = Path(named)
    if not home.is_absolute() or not home.is_dir():
        yield problem(f"{_HOME}={named} is not an absolute path of a folder: Dagster forgets everything at its end")
        return
    if not (home / _FILE).is_file():
        yield problem(f"{home} has no {_FILE}; copy orchestration/{_FILE} of this package there")
        return
    settings = _mapping((home / _FILE).read_text())
    yield from _settings(home, settings)
    if not ("storage" in settings or (home / "storage").exists() or (home / "history").exists()):
        yield ok(f"{home} has no history yet: Dagster has not run there")
        return
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield from _daemon(instance)
        yield from _failures(instance, case)


def _settings(home: Path, theirs: Mapping[str, Any]) -> Iterator[Finding]:
    ours = _mapping((resources.files("jetstream_pipeline.orchestration") / _FILE).read_text())
    others = [name for name in ours if theirs.get(name) != ours[name]]
    launcher, monitoring = (_part(theirs, name) for name in ("run_launcher", "run_monitoring"))
    needed = [] if launcher.get("class") in _WATCHING else ["run_launcher"]
    needed += [] if monitoring.get("enabled") is True else ["run_monitoring"]
    if needed:
        text = f"{home / _FILE} has no {some(needed)} that would notice a run that is killed: it may keep its place"
        source = f"orchestration/{_FILE}, or from that of deploy/ for a cluster"
        yield warning(f"{text}; take that over from {source}, unless it was meant")
    elif launcher != ours["run_launcher"]:
        yield ok(f"{home / _FILE} launches runs by {launcher['class']}, and has them watched")
    elif others:
        yield ok(f"{home / _FILE} differs from this version's in {some(others)}")
    else:
        yield ok(f"{home / _FILE} has this version's settings")


def _part(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, dict) else {}


def _mapping(text: str) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _daemon(instance: dg.DagsterInstance) -> Iterator[Finding]:
    statuses = get_daemon_statuses(instance, instance.get_required_daemon_types())
    silent = sorted(name for name, status in statuses.items() if not status.healthy)
    errors = sorted(name for name, status in statuses.items() if status.last_heartbeat and status.last_heartbeat.errors)
    if silent:
        text = f"Dagster's daemon gives no sign of life ({some(silent)}): nothing is scheduled"
        yield problem(f"{text}; start it (make run, or dagster-daemon run) with the same {_HOME}")
    elif errors:
        yield warning(
            f"Dagster's daemon lives, and reports errors ({some(errors)}); see Deployment → Daemons in its UI"
        )
    else:
        yield ok("Dagster's daemon lives")


def _failures(instance: dg.DagsterInstance, case: Case) -> Iterator[Finding]:
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=case.now - _DAY)
    runs = instance.get_runs(filters, limit=_MOST)
    if not runs:
        yield ok(f"no run has failed within {span(_DAY)}", failed=0)
        return
    jobs = sorted({run.job_name for run in runs})
    text = f"{count(len(runs), 'run')} failed within {span(_DAY)} ({some(jobs)})"
    yield warning(f"{text}; what they say is in the UI: Runs → Failed", failed=len(runs))
