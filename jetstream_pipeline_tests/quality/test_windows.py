"""The windows around one are read where they can be."""

from pathlib import Path

import pytest

from jetstream_pipeline.quality.windows import Windows
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline_tests.quality.summaries import put, shifted, summary
from jetstream_pipeline_tests.windows import HOUR


@pytest.fixture
def windows(data: DataDirectory) -> Windows:
    return Windows("network", data.lake)


def path_of(windows: Windows, hours: float) -> Path:
    return windows.lake.events_path("network", shifted(hours))


def stand(windows: Windows, *hours: float) -> None:
    for shift in hours:
        put(path_of(windows, shift), summary(shifted(shift), events=1))


def test_neighbours_and_the_same_hour_of_seven_days_are_found(windows: Windows) -> None:
    stand(windows, -1, 0, 1, *(-24 * day for day in range(1, 10)), -25)
    assert windows.at(HOUR) == summary(HOUR, events=1)
    assert windows.before(HOUR) == summary(shifted(-1), events=1)
    assert windows.after(HOUR) == summary(shifted(1), events=1)
    assert [day.window for day in windows.same_hour(HOUR)] == [shifted(-24 * day) for day in range(1, 8)]
    assert [day.window for day in windows.same_hour(HOUR, days=2)] == [shifted(-24), shifted(-48)]


def test_nothing_is_found_where_nothing_stands(windows: Windows) -> None:
    assert windows.at(HOUR) is windows.before(HOUR) is windows.after(HOUR) is windows.newest() is None
    assert list(windows.same_hour(HOUR)) == []


def test_files_that_are_damaged_or_no_files_are_passed_over(windows: Windows) -> None:
    stand(windows, -1, 1, -24, -48, -72)
    path_of(windows, -1).write_bytes(b"")
    path_of(windows, 1).write_bytes(path_of(windows, 1).read_bytes()[:-9] + b"\0" * 9)
    path_of(windows, -24).unlink()
    path_of(windows, -24).mkdir()
    path_of(windows, -72).unlink()
    assert windows.before(HOUR) is windows.after(HOUR) is None
    assert [day.window for day in windows.same_hour(HOUR)] == [shifted(-48)]


def test_a_file_in_anothers_place_is_not_taken_for_its_own(windows: Windows) -> None:
    put(path_of(windows, -1), summary(shifted(-2)))
    put(path_of(windows, 1), summary(shifted(1)).model_copy(update={"stream": "other"}))
    put(path_of(windows, 0), summary(state=WindowState.UNPROVEN))
    assert windows.before(HOUR) is windows.after(HOUR) is windows.at(HOUR) is None


def test_the_newest_window_is_the_latest_that_can_be_read(windows: Windows) -> None:
    stand(windows, -30, 0, 1, 12)
    path_of(windows, 12).write_bytes(b"PAR1")
    odd = path_of(windows, 0).parent.parent.parent / "date=never" / "hour=99" / "events.parquet"
    odd.parent.mkdir(parents=True)
    odd.touch()
    newest = windows.newest()
    assert newest
    assert newest.window == shifted(1)
