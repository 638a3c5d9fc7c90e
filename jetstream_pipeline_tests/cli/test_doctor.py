"""The command `doctor`: its lines, its JSON, and its exit code."""

import json
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from jetstream_pipeline.doctor.examine import EXAMINATIONS
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.cli.commands import run
from jetstream_pipeline_tests.doctor.cases import DEAD
from jetstream_pipeline_tests.quality.summaries import put, summary

QUIET = {"JETSTREAM_HOSTS": DEAD, "DAGSTER_HOME": ""}


def test_a_pipeline_that_is_well_has_one_line_for_each_finding_and_no_problem(
    data: DataDirectory, stack: ExitStack
) -> None:
    address = stack.enter_context(running(Simulator(Network(rate=50)))).address
    window = Window.hour(datetime.now(UTC) - timedelta(hours=2))
    put(data.lake.events_path("network", window), summary(window))
    settings = {"JETSTREAM_HOSTS": address, "JETSTREAM_FIRST_HOUR": window.key, "DAGSTER_HOME": ""}
    result = run(data, "doctor", **settings)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert all(re.match(r"(ok|warning) +[a-z]+ +\S", line) for line in lines)
    assert {line.split()[1] for line in lines} == {*EXAMINATIONS, "dagster"}


def test_a_problem_is_told_by_the_exit_code(data: DataDirectory) -> None:
    result = run(data, "doctor", "--only", "hosts", "--json", **QUIET)
    assert result.exit_code == 1
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["severity"] for one in told] == ["warning", "problem"]
    assert {one["examination"] for one in told} == {"hosts"}


def test_what_is_asked_for_alone_is_told_alone(data: DataDirectory) -> None:
    result = run(data, "doctor", "--only", "queues", "--only", "locks", **QUIET)
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["queues", "locks"]


def test_input_that_is_wrong_is_no_finding(data: DataDirectory) -> None:
    assert run(data, "doctor", "--only", "weather").exit_code == 2
    assert run(data, "doctor", JETSTREAM_SETTLE_MINUTES="soon").exception is not None
