"""`jetstream-pipeline doctor`: what is so, and in words what to do. What is looked at is `doctor`'s to know."""

from __future__ import annotations

import json
import os
import sys

import click

from jetstream_pipeline.cli.numbers import FiniteRange
from jetstream_pipeline.cli.output import printable
from jetstream_pipeline.cli.windows import declared_here
from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.examine import EXAMINATIONS, Examination, examine
from jetstream_pipeline.doctor.finding import Finding, Severity, problem
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration.health import examine_dagster
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.streams.stream import Stream

_ALL: dict[str, Examination] = {**EXAMINATIONS, "dagster": examine_dagster}
_COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.PROBLEM: "red"}


@click.command(short_help="Look at everything, and say in words what to do.")
@click.option(
    "--only", "names", multiple=True, type=click.Choice(list(_ALL)), help="Only this examination; repeatable."
)
@click.option(
    "--timeout",
    type=FiniteRange(min=1, max=3600),
    default=20.0,
    show_default=True,
    help="Seconds that each examination may take; all go on at once.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per finding.")
def doctor(names: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Look at settings, versions, disk, clock, hosts, windows, tables, staging, quarantine, queues, locks and Dagster.

    One line per finding: ok, warning or problem, and what to do. Nothing is changed. Exit code 1 where there is a
    problem.
    """
    settings = Settings.read()
    streams, mistakes = _streams(settings)
    case = Case(settings, streams, os.environ, timeout)
    chosen = {name: _ALL[name] for name in names or _ALL}
    worst = Severity.OK
    for name, findings in [("settings", mistakes), *examine(case, chosen)]:
        for finding in findings:
            click.echo(_json(name, finding) if as_json else _line(name, finding))
            if finding.severity is Severity.PROBLEM:
                worst = Severity.PROBLEM
    sys.exit(1 if worst is Severity.PROBLEM else 0)


def _streams(settings: Settings) -> tuple[tuple[Stream, ...], list[Finding]]:
    try:
        return tuple(declared_here(settings)), []
    except InvalidInput as error:
        return (), [problem(f"{error}; until then, no declared stream is looked at")]


def _line(name: str, finding: Finding) -> str:
    severity = click.style(f"{finding.severity:<8}", fg=_COLOURS[finding.severity])
    return f"{severity} {name:<11} {printable(finding.text)}"


def _json(name: str, finding: Finding) -> str:
    return json.dumps({"examination": name, **finding.model_dump(mode="json")}, ensure_ascii=False)
