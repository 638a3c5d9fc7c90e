"""Windows that came into the lake without Dagster become known to it, and are consumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from jetstream_pipeline.orchestration import adoption
from jetstream_pipeline.orchestration.adoption import adoptions
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowSummary, read_summary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.driving import EVENTS, Driver, declared, hours_ago, plain, questions
from jetstream_pipeline_tests.quality import summaries
from jetstream_pipeline_tests.quality.summaries import summary
from jetstream_pipeline_tests.windows import HOUR, commit, store

WINDOWS = [Window.hour(HOUR.start + timedelta(hours=number)) for number in range(60)]
FIRST, SECOND, THIRD = WINDOWS[:3]
CATCH_UP = "network_catch_up"


@pytest.fixture
def dagster(data: DataDirectory) -> Iterator[Driver]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Driver(declared(data, "ws://127.0.0.1:9", first=HOUR, report=False), instance)


class Adopting:
    """Looks that follow each other; what they find is stored."""

    def __init__(self, dagster: Driver) -> None:
        self.dagster = dagster
        self.since = 0
        self.first = HOUR.start

    def look(self, *under_way: Window) -> list[str | None]:
        instance = self.dagster.instance
        found, self.since = adoptions(instance, self.dagster.stream, EVENTS, set(under_way), self.since, self.first)
        for materialization in found:
            instance.report_runless_asset_event(materialization)
        return [materialization.partition for materialization in found]


def put(dagster: Driver, window: Window, *numbers: int) -> None:
    store(dagster.stream.data, [commit("{}", number=number) for number in numbers], window)


def test_a_window_that_the_core_replayed_alone_becomes_known_and_is_consumed(data: DataDirectory) -> None:
    window = hours_ago(3)
    with running(Simulator(Network(rate=1))) as simulator, dg.DagsterInstance.ephemeral() as instance:
        stream = declared(data, simulator.address, first=window, report=False)
        dagster = Driver(stream, instance)
        stream.replay(window)
        dagster.look(CATCH_UP)
        (known,) = dagster.materializations()
        path = data.lake.events_path("network", window)
        stored = read_summary(path)
        metadata = plain(known.metadata)
        assert known.partition == window.key
        assert known.tags
        assert known.tags["dagster/data_version"] == stored.content
        assert metadata["dagster/partition_row_count"] == stored.events > 1000
        assert (metadata["path"], metadata["bytes"]) == (str(path), path.stat().st_size)
        assert dagster.consume("tables") == {window.key: True}
        dagster.look(CATCH_UP)
        assert len(dagster.materializations()) == 1


def test_a_window_that_a_run_told_is_not_told_again(data: DataDirectory) -> None:
    window = hours_ago(3)
    with running(Simulator(Network(rate=1))) as simulator, dg.DagsterInstance.ephemeral() as instance:
        dagster = Driver(declared(data, simulator.address, first=window), instance)
        assert dagster.replay(window).success
        assert Adopting(dagster).look() == []


def test_each_window_is_told_once_the_first_to_land_first(dagster: Driver) -> None:
    adopting = Adopting(dagster)
    for window in (SECOND, FIRST, THIRD):
        put(dagster, window, 1)
    assert adopting.look() == [SECOND.key, FIRST.key, THIRD.key]
    assert adopting.look() == []
    assert Adopting(dagster).look() == [], "a cursor that is lost repeats nothing"


def test_a_window_with_other_content_is_told_again_and_one_with_the_same_is_not(dagster: Driver) -> None:
    adopting = Adopting(dagster)
    put(dagster, FIRST, 1)
    put(dagster, SECOND, 2)
    assert adopting.look() == [FIRST.key, SECOND.key]
    put(dagster, FIRST, 1, 3)
    put(dagster, SECOND, 2)
    assert adopting.look() == [FIRST.key]
    put(dagster, FIRST, 1)
    assert adopting.look() == [FIRST.key], "what it was before is not what is known now"


def test_a_window_whose_file_does_not_know_its_content_is_told_once(dagster: Driver) -> None:
    """Old ones, from before contents were kept."""
    said = summary(FIRST)
    assert said.content == ""
    summaries.put(dagster.stream.data.lake.events_path("network", FIRST), said)
    assert Adopting(dagster).look() == [FIRST.key]
    assert Adopting(dagster).look() == []


def test_a_damaged_file_holds_up_nothing(dagster: Driver) -> None:
    adopting = Adopting(dagster)
    put(dagster, FIRST, 1)
    dagster.stream.data.lake.events_path("network", FIRST).write_bytes(b"garbage")
    put(dagster, SECOND, 1)
    assert adopting.look() == [SECOND.key]
    put(dagster, FIRST, 1)
    assert adopting.look() == [FIRST.key]


def test_what_a_run_is_at_is_told_by_the_run_or_afterwards(dagster: Driver) -> None:
    adopting = Adopting(dagster)
    for window in (FIRST, SECOND, THIRD):
        put(dagster, window, 1)
    assert adopting.look(SECOND) == [FIRST.key, THIRD.key]
    assert adopting.look(SECOND) == []
    assert adopting.look() == [SECOND.key]


def test_what_several_runs_are_at_is_told_afterwards_from_the_earliest_on(dagster: Driver) -> None:
    adopting = Adopting(dagster)
    for window in (FIRST, SECOND, THIRD):
        put(dagster, window, 1)
    assert adopting.look(FIRST, SECOND) == [THIRD.key]
    assert adopting.look() == [FIRST.key, SECOND.key]


def test_a_file_that_vanishes_meanwhile_holds_up_nothing(dagster: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, read = dagster.stream.data.lake.events_path("network", FIRST), adoption.read_summary

    def read_or_gone(path: Path) -> WindowSummary:
        gone.unlink(missing_ok=True)
        return read(path)

    for window in (FIRST, SECOND):
        put(dagster, window, 1)
    monkeypatch.setattr(adoption, "read_summary", read_or_gone)
    assert Adopting(dagster).look() == [SECOND.key]


def test_a_window_before_the_partitions_waits_until_they_reach_it(dagster: Driver) -> None:
    adopting = Adopting(dagster)
    early = Window.hour(HOUR.start - timedelta(days=5))
    for window in (early, FIRST):
        put(dagster, window, 1)
    assert adopting.look() == [FIRST.key]
    adopting.first = early.start
    assert adopting.look() == [early.key]


def test_the_sensor_leaves_a_window_to_the_run_that_is_at_it(dagster: Driver) -> None:
    put(dagster, FIRST, 1)
    run = dagster.stands("network_events", "STARTED", {"dagster/partition": FIRST.key})
    dagster.look(CATCH_UP)
    assert dagster.materializations() == []
    dagster.instance.report_run_failed(dagster.instance.get_run_by_id(run))  # type: ignore[arg-type]
    dagster.look(CATCH_UP)
    assert [known.partition for known in dagster.materializations()] == [FIRST.key]


def test_a_lake_full_of_windows_is_told_in_portions(dagster: Driver) -> None:
    adopting = Adopting(dagster)
    for window in WINDOWS:
        put(dagster, window, 1)
    assert adopting.look() == [window.key for window in WINDOWS[:50]]
    assert adopting.look() == [window.key for window in WINDOWS[50:]]
    with questions() as asked:
        assert adopting.look() == []
    assert len(asked) == 1, "only the last one is looked at again"


def test_a_long_history_that_is_known_is_looked_through_in_portions(
    dagster: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for window in WINDOWS[:12]:
        put(dagster, window, 1)
    assert len(Adopting(dagster).look()) == 12
    put(dagster, WINDOWS[12], 1)
    monkeypatch.setattr(adoption, "_LOOKED_AT", 5)
    adopting = Adopting(dagster)
    assert [adopting.look() for _ in range(4)] == [[], [], [WINDOWS[12].key], []]


def test_windows_that_landed_at_one_and_the_same_time_are_all_told(
    dagster: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system's clock ticks every few milliseconds only."""
    listed = Lake.listed
    together = lambda lake, stream: [replace(file, moment_ns=1) for file in listed(lake, stream)]  # noqa: E731
    monkeypatch.setattr(Lake, "listed", together)
    adopting = Adopting(dagster)
    for window in WINDOWS[:52]:
        put(dagster, window, 1)
    assert len(adopting.look()) == 50
    assert len(adopting.look()) == 2
    put(dagster, WINDOWS[52], 1)
    assert adopting.look() == [WINDOWS[52].key]
