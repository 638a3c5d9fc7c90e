"""`retain` deletes by the limits that are given or declared, or says what it would delete and why."""

import json

import pytest

from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.cli.commands import declare, run
from jetstream_pipeline_tests.orchestration.driving import declared, hours_ago
from jetstream_pipeline_tests.windows import commit, store

OLD, NEW = hours_ago(100), hours_ago(3)


@pytest.fixture(autouse=True)
def _windows(data: DataDirectory) -> None:
    for window in (OLD, NEW):
        store(data, [commit("{}")], window)


def test_a_dry_run_tells_and_deletes_nothing(data: DataDirectory) -> None:
    told = run(data, "retain", "network", "--events-days", "2", "--dry-run")
    assert (told.exit_code, told.output.count("\n")) == (0, 1)
    assert f"network  {OLD}  events  0.0 MB  older than 2 days  would be deleted" in told.output
    assert data.lake.whole("network") == {OLD, NEW}
    said = json.loads(run(data, "retain", "network", "--events-days", "2", "--dry-run", "--json").output)
    assert (said["window"], said["what"], said["kept"], said["deleted"]) == (OLD.key, "events", None, False)


def test_what_is_beyond_the_limit_is_deleted_and_told(data: DataDirectory) -> None:
    told = run(data, "retain", "network", "--events-days", "2")
    assert (told.exit_code, told.output.strip().endswith("older than 2 days  deleted")) == (0, True)
    assert data.lake.whole("network") == {NEW}


def test_a_stream_that_is_named_twice_is_told_once(data: DataDirectory) -> None:
    told = run(data, "retain", "network", "network", "--events-days", "2", "--dry-run")
    assert told.output.count("\n") == 1


def test_declared_limits_hold_where_none_are_given(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, declared(data, retention={"events": {"days": 3}}))
    assert "older than 3 days  would be deleted" in run(data, "retain", "--dry-run").output
    assert "older than 2 days" in run(data, "retain", "network", "--events-days", "2", "--dry-run").output


def test_what_shall_be_backed_up_or_fed_stays_and_the_exit_code_says_so(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"events": {"days": 3}, "backed_up": str(data.root / "nothing")}
    declare(monkeypatch, declared(data, retention=limits, queues=[{"name": "work"}]))
    for argument, reason in (
        ("--events-days=2", "the queue work has not"),
        ("--unfed", "there is no copy of it"),
    ):
        told = run(data, "retain", "network", argument)
        assert told.exit_code == 1
        assert f"stays: {reason}" in told.output
    assert data.lake.whole("network") == {OLD, NEW}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing", "--events-days", "2"], "there is no stream nothing in "),
        (["network"], "network is declared without limits; give some: --events-days 90"),
        (["--events-days", "2"], "name the stream"),
        (["network", "--events-days", "0"], "days: 0 keeps nothing"),
    ],
)
def test_what_cannot_be_meant_is_told(data: DataDirectory, arguments: list[str], reason: str) -> None:
    told = run(data, "retain", *arguments)
    assert reason in str(told.exception)
    assert data.lake.whole("network") == {OLD, NEW}


def test_without_declared_limits_there_is_nothing_to_do(data: DataDirectory) -> None:
    told = run(data, "retain")
    assert (told.exit_code, told.stdout) == (0, "")
    assert "no stream is declared with limits" in told.stderr
    assert data.lake.whole("network") == {OLD, NEW}
