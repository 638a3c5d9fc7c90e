"""What Prometheus is told of a lake and its queues, scraped over HTTP; and that looking again costs little."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.metrics import lake
from jetstream_pipeline.metrics.extra import parse_address
from jetstream_pipeline.metrics.families import LakeCollector
from jetstream_pipeline.metrics.kept import Kept
from jetstream_pipeline.metrics.lake import LakeReadings
from jetstream_pipeline.metrics.serving import serving
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage import days
from jetstream_pipeline.storage.files import found
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.tables.compaction import Compaction
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.metrics.scraping import samples, scrape
from jetstream_pipeline_tests.quality.summaries import put, summary
from jetstream_pipeline_tests.windows import commit, store

ADDRESS = ("127.0.0.1", 0)


def hours_ago(number: int) -> Window:
    return Window.hour(datetime.now(UTC) - timedelta(hours=number))


def declared(data: DataDirectory, first: Window, look_back: int = 36) -> Stream:
    settings = Settings(data_dir=data.root, look_back_hours=look_back)
    return Stream(name="network", settings=settings, hosts=settings.parsed_hosts(), start=first.start)


def test_a_stream_is_told_with_its_windows_and_the_figures_of_the_newest(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 7, 4, 18, 30, tzinfo=UTC)
    monkeypatch.setattr(lake, "datetime", SimpleNamespace(now=lambda _: now))
    newest, second, third, fourth, _, first = (Window.hour(now - timedelta(hours=number)) for number in range(1, 7))
    for window, events in ((newest, 300), (second, 200)):
        put(data.lake.events_path("network", window), summary(window, events, quarantined=events // 100))
    truncated = summary(third, 10, state=WindowState.TRUNCATED)
    put(data.lake.incomplete_path("network", third), truncated)
    put(data.lake.incomplete_path("network", newest), truncated)
    data.lake.events_path("network", fourth).parent.mkdir(parents=True)
    data.lake.events_path("network", fourth).write_bytes(b"none")
    streams = [declared(data, first, look_back=4)]
    with serving(ADDRESS, [LakeCollector(LakeReadings(data, streams))]) as port:
        told = samples(scrape(port))
    size = sum(path.stat().st_size for path in data.lake.windows("network") if path.stat().st_size > 10)
    assert {name: value for name, value in told.items() if name.startswith("jetstream_") and "network" in name} == {
        'jetstream_windows{state="complete",stream="network"}': 2,
        'jetstream_windows{state="verified",stream="network"}': 0,
        'jetstream_windows{state="truncated",stream="network"}': 1,
        'jetstream_windows{state="unproven",stream="network"}': 0,
        'jetstream_unreadable_windows{stream="network"}': 1,
        'jetstream_missing_windows{stream="network"}': 1,
        'jetstream_lost_windows{stream="network"}': 2,
        'jetstream_lake_events{stream="network"}': 500,
        'jetstream_lake_bytes{stream="network"}': size,
        'jetstream_newest_window_end_timestamp_seconds{stream="network"}': newest.end.timestamp(),
        'jetstream_newest_window_events{stream="network"}': 300,
        'jetstream_newest_window_bytes{stream="network"}': data.lake.events_path("network", newest).stat().st_size,
        'jetstream_newest_window_replay_seconds{stream="network"}': 1.0,
        'jetstream_newest_window_quarantined_messages{stream="network"}': 3,
    }
    assert 0 < told["jetstream_data_free_bytes"] < told["jetstream_data_size_bytes"]


def test_queues_the_quarantine_and_staging_are_told(data: DataDirectory) -> None:
    store(data, [commit('{"text":"first"}'), b"no event"], hours_ago(3))
    queue = Queue("jobs", create_new_queue=True, data_dir=data.root, max_attempts=1)
    queue.batch_add_items_to_queue(["1", "2", "3", "4"])
    queue.fail(queue.claim(1), "no")
    queue.ack(queue.claim(1))
    queue.claim(1)
    (data.queues / "broken.duckdb").write_bytes(b"none")
    (data.staging / "network" / "2026-07-04-1800").mkdir(parents=True)
    with serving(ADDRESS, [LakeCollector(LakeReadings(data))]) as port:
        told = samples(scrape(port))
    items = {status: told[f'jetstream_queue_items{{queue="jobs",status="{status}"}}'] for status in ("pending", "dead")}
    assert items == {"pending": 1, "dead": 1}
    assert told['jetstream_queue_items{queue="jobs",status="claimed"}'] == 1
    assert told['jetstream_queue_added_total{queue="jobs"}'] == 4
    assert told['jetstream_queue_acknowledged_total{queue="jobs"}'] == 1
    assert told['jetstream_queue_oldest_pending_timestamp_seconds{queue="jobs"}'] > 1.7e9
    assert (told['jetstream_queue_up{queue="jobs"}'], told['jetstream_queue_up{queue="broken"}']) == (1, 0)
    assert told['jetstream_quarantined_messages{name="network"}'] == 1
    assert told["jetstream_staged_windows"] == 1
    assert 'jetstream_missing_windows{stream="network"}' not in told


def test_an_empty_data_directory_is_told_too(tmp_path: Path) -> None:
    with serving(ADDRESS, [LakeCollector(LakeReadings(DataDirectory(tmp_path / "none")))]) as port:
        assert "jetstream_data_free_bytes" in samples(scrape(port))
    assert list(tmp_path.iterdir()) == []


def test_a_windows_file_is_read_once_and_again_when_it_was_replaced(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(lake, "read_summary", lambda path: read.append(path) or read_summary(path))
    paths = [data.lake.events_path("network", hours_ago(hours)) for hours in range(2, 6)]
    for path, hours in zip(paths, range(2, 6), strict=True):
        put(path, summary(hours_ago(hours), 100))
    readings = LakeReadings(data)
    assert readings.read().streams["network"].events == 400
    assert readings.read().streams["network"].events == 400
    assert sorted(read) == sorted(paths)
    put(paths[1].with_suffix(".new"), summary(hours_ago(3), 50))
    os.replace(paths[1].with_suffix(".new"), paths[1])
    paths[3].unlink()
    assert readings.read().streams["network"].events == 250
    assert read[len(paths) :] == [paths[1]]


def test_scrapes_that_come_together_read_once(data: DataDirectory) -> None:
    put(data.lake.events_path("network", hours_ago(2)), summary(hours_ago(2), 100))
    with serving(ADDRESS, [LakeCollector(LakeReadings(data), kept_sec=60)]) as port:
        before = samples(scrape(port))
        put(data.lake.events_path("network", hours_ago(3)), summary(hours_ago(3), 100))
        after = samples(scrape(port))
    assert {name: value for name, value in before.items() if name.startswith("jetstream_")} == {
        name: value for name, value in after.items() if name.startswith("jetstream_")
    }


def test_names_keep_to_prometheus_conventions(data: DataDirectory) -> None:
    put(data.lake.events_path("network", hours_ago(2)), summary(hours_ago(2), 100))
    Queue("jobs", create_new_queue=True, data_dir=data.root)
    with serving(ADDRESS, [LakeCollector(LakeReadings(data))]) as port:
        families = list(text_string_to_metric_families(scrape(port)))
    for family in families:
        if family.name.startswith("jetstream_"):
            check_conventions(family.name, family.type, {name for one in family.samples for name in one.labels})
            assert family.documentation.endswith(".")


def check_conventions(name: str, kind: str, labels: set[str]) -> None:
    """Snake case, base units at the end, no type in a name, few labels, each of our own choosing."""
    assert re.fullmatch(r"jetstream(_[a-z]+)+", name)
    assert kind in ("counter", "gauge", "info")
    assert not re.search(r"_(total|count|gauge|counter|milliseconds|minutes|hours|megabytes|percent)$", name)
    assert "timestamp" not in name or name.endswith("_timestamp_seconds")
    assert labels <= {"stream", "state", "queue", "status", "name", "version", "kind"}


@pytest.mark.parametrize("text", ["9464", "host", ":9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_told(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not an address to listen at"):
        parse_address(text)
    assert parse_address("[::1]:9464") == ("::1", 9464)


def test_an_address_in_use_is_told(data: DataDirectory) -> None:
    taken = pytest.raises(InvalidInput, match="cannot listen at")
    with serving(ADDRESS, []) as port, taken, serving(("127.0.0.1", port), []):
        pass


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (file,) = found(tmp_path, "file")
    assert list(Kept(read_summary).of([file])) == [(file, None)]


def test_a_lake_in_an_object_store_is_read_alike(remote_data: DataDirectory) -> None:
    store(remote_data, [commit('{"text":"first"}'), b"no event"], hours_ago(3))
    snapshot = LakeReadings(remote_data).read()
    figures = snapshot.streams["network"]
    assert (figures.events, figures.windows[WindowState.COMPLETE], snapshot.quarantined) == (1, 1, {"network": 1})
    assert figures.bytes == figures.newest_bytes > 1000


def test_windows_whose_day_is_one_file_are_counted(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "SEEN_SEC", 0.0)
    day = Window.from_key("2026-07-01-00:00").start.date()
    newest = Window.from_key("2026-07-02-00:00")
    for number, window in enumerate((*hours_of(day), newest)):
        store(data, [commit('{"text":"one"}', number=number)], window)
    readings = LakeReadings(data)
    for keep in (timedelta(hours=1), timedelta()):
        list(Compaction(data, "network").run(newest.start.date(), keep=keep))
        figures = readings.read().streams["network"]
        assert dict(figures.windows) == {WindowState.COMPLETE: 25}
        assert figures.events == 25
        assert figures.newest
        assert figures.newest.end == newest.end
