"""`compact` makes days of windows, and windows of days; views show the same."""

from datetime import timedelta

import duckdb
import pytest

from jetstream_pipeline.storage import days
from jetstream_pipeline.storage.days import held
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.cli.commands import run
from jetstream_pipeline_tests.iceberg.reading import table
from jetstream_pipeline_tests.windows import HOUR, commit, store

DAY = HOUR.start.date()


@pytest.fixture(autouse=True)
def _day(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "SEEN_SEC", 0.0)
    for window in (*hours_of(DAY), hours_of(DAY + timedelta(days=1))[0]):
        store(data, [commit("{}")], window)


def rows(data: DataDirectory) -> int:
    with duckdb.connect(data.warehouse, read_only=True) as connection:
        return len(connection.execute("SELECT * FROM events").fetchall())


def test_days_are_made_and_made_windows_again(data: DataDirectory) -> None:
    assert run(data, "compact", "network", "--before", f"{DAY}").output == ""
    told = run(data, "compact", "network", "--keep-minutes", "0")
    assert (told.exit_code, told.output.count("\n")) == (0, 1)
    assert told.output.startswith(f"network  {DAY}  24 files of 0.")
    assert rows(data) == 25
    assert not data.lake.events_path("network", HOUR).exists()
    assert run(data, "compact", "network", "--expand").output == f"network  {DAY}  windows again\n"
    assert data.lake.events_path("network", HOUR).exists()
    assert rows(data) == 25


def test_a_day_that_is_worked_on_is_told_and_the_exit_code_says_so(data: DataDirectory) -> None:
    with held(data, "network", [HOUR]):
        told = run(data, "compact", "network")
    assert (told.exit_code, told.output) == (1, f"network  {DAY}  stays as it is: a run is at one of its windows\n")


def test_a_stream_that_is_not_there_is_told(data: DataDirectory) -> None:
    assert "there is no stream nothing in" in str(run(data, "compact", "nothing").exception)


def test_an_iceberg_table_has_the_day_in_place_of_its_hours(data: DataDirectory) -> None:
    assert run(data, "compact", "network", JETSTREAM_ICEBERG="sqlite").exit_code == 0
    with table(data) as found:
        assert len(list(found.scan().plan_files())) == 1 + len(data.lake.whole("network")) - 24
    assert run(data, "compact", "network", "--expand", JETSTREAM_ICEBERG="sqlite").exit_code == 0
    with table(data) as found:
        assert len(list(found.scan().plan_files())) == len(data.lake.whole("network"))
