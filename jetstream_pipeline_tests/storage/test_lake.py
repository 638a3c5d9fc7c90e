"""Where the lake's files lie, and what can be known from that alone."""

from datetime import timedelta

from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.windows import HOUR, commit, store


def hour(number: int) -> Window:
    return Window.hour(HOUR.start + timedelta(hours=number))


def test_a_streams_whole_windows_are_those_that_are_complete_or_verified(data: DataDirectory) -> None:
    assert data.lake.whole("network") == set()
    store(data, [commit("{}")], hour(0))
    store(data, [], hour(30))
    store(data, [commit("{}")], hour(1), state=WindowState.TRUNCATED)
    store(data, [commit("{}")], hour(2), state=WindowState.UNPROVEN)
    store(data, [commit("{}")], hour(3), stream="other")
    assert data.lake.whole("network") == {hour(0), hour(30)}
    assert data.lake.whole("other") == {hour(3)}


def test_a_window_that_becomes_whole_is_whole(data: DataDirectory) -> None:
    store(data, [commit("{}")], state=WindowState.TRUNCATED)
    assert data.lake.whole("network") == set()
    store(data, [commit("{}")])
    assert data.lake.whole("network") == {HOUR}


def test_the_oldest_hour_is_that_of_any_window_whole_or_not(data: DataDirectory) -> None:
    assert data.lake.oldest_hour("network") is None
    store(data, [commit("{}")], hour(0))
    assert data.lake.oldest_hour("network") == hour(0).start
    store(data, [commit("{}")], hour(-40), state=WindowState.TRUNCATED)
    store(data, [commit("{}")], hour(-100), stream="other")
    assert data.lake.oldest_hour("network") == hour(-40).start
    store(data, [commit("{}")], hour(-41))
    assert data.lake.oldest_hour("network") == hour(-41).start
    store(data, [commit("{}")], hour(-70))
    assert data.lake.oldest_hour("network") == hour(-70).start


def test_folders_that_are_no_hours_are_none_of_the_lakes(data: DataDirectory) -> None:
    store(data, [])
    standing = data.lake.events_path("network", HOUR)
    for folder in ("date=abcd-ef-gh/hour=01", "date=2026-07-04/hour=99", "date=0000-00-00/hour=00", "date=1/hour=x"):
        stray = standing.parents[2] / folder / standing.name
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"")
    assert data.lake.whole("network") == {HOUR}
    assert data.lake.oldest_hour("network") == HOUR.start
