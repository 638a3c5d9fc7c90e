"""What follows a retry of the quarantine, and what is told of it. The retry itself is tested beside its use case."""

import duckdb
import pytest

from jetstream_pipeline.storage import quarantine
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline_tests.cli.commands import fill, grow, run, texts
from jetstream_pipeline_tests.windows import HOUR


@pytest.fixture
def data(data: DataDirectory) -> DataDirectory:
    """A window of two posts and one message that stays garbage; its tables know one post."""
    fill(data)
    grow(data, b"garbage")
    return data


@pytest.mark.parametrize("is_emptied", [False, True])
def test_a_retry_derives_the_tables_that_one_that_died_has_left_old(data: DataDirectory, is_emptied: bool) -> None:
    path = data.quarantine_path("network", HOUR)
    if is_emptied:
        quarantine.rewrite(path, quarantine.read(path).slice(0, 0))
    result = run(data, "quarantine", "retry", "network")
    assert result.exit_code == 0, result.output
    assert texts(data) == ["first", "second"]


def test_a_retry_leaves_tables_as_they_are_where_none_are_wanted(data: DataDirectory) -> None:
    assert run(data, "quarantine", "retry", "--no-tables").exit_code == 0
    assert texts(data) == ["first"]


def test_a_retry_tells_of_each_file_in_a_line(data: DataDirectory) -> None:
    result = run(data, "quarantine", "retry")
    assert (result.exit_code, result.stdout) == (0, f"network  {HOUR}  0 of 1 understood, 0 added\n")


def test_a_file_that_a_retry_leaves_is_told_with_the_reason_and_exit_code_1(data: DataDirectory) -> None:
    with staged(data, "network", HOUR):
        result = run(data, "quarantine", "retry")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"network  {HOUR}  0 of 1 understood, 0 added  (another run is at network {HOUR}")


def test_what_a_retry_leaves_can_be_queried(data: DataDirectory) -> None:
    run(data, "quarantine", "retry")
    with duckdb.connect(data.warehouse, read_only=True) as connection:
        assert connection.execute("SELECT stream, message FROM quarantine").fetchall() == [("network", b"garbage")]


def test_people_get_a_table_of_the_reasons(data: DataDirectory) -> None:
    result = run(data, "quarantine", "list")
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("│ network ")]
    assert row.split("│")[3].strip() == "1"
