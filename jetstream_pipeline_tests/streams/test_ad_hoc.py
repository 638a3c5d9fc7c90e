"""What somebody wants once comes into a queue or a stream of its own, whole, and nothing of it elsewhere."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.connector.statistics import Progress
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.ad_hoc import AdHoc, interval, settled_hours
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window, to_us
from jetstream_pipeline_tests.connector.events import identity, simulated, stored
from jetstream_pipeline_tests.handles.names import naming
from jetstream_pipeline_tests.handles.web import serving
from jetstream_pipeline_tests.handles.world import World

NOW = datetime(2026, 7, 4, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NETWORK = Network(seed=3, rate=3)
PAST = Window.hour(datetime.now(UTC) - timedelta(hours=3))
POSTS = ("app.bsky.feed.post",)


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    with running(Simulator(NETWORK)) as simulator:
        yield simulator


def ad_hoc(data: DataDirectory, host: Simulator, **said: Any) -> AdHoc:
    settings = Settings(data_dir=data.root, hosts=(host.address,))
    return AdHoc(**{"name": "mine", "start": PAST.start, "end": PAST.end, "settings": settings, **said})


def events(start: datetime, end: datetime, *collections: str) -> list[SimulatedEvent]:
    """What the network had then of these collections (none: of all), and what is of no collection."""
    every = NETWORK.events(to_us(start), to_us(end))
    return [event for event in every if not collections or event.collection in (None, *collections)]


def queued(data: DataDirectory) -> list[Any]:
    return [identity(record) for record in stored(Queue("ad_hoc_mine", data_dir=data.root))]


@pytest.mark.parametrize(
    ("start", "end", "since", "until"),
    [
        ("", "", NOW - 11 * MINUTE, NOW - MINUTE),
        ("", "2026-07-04-12:00", NOW - 160 * MINUTE, NOW - 150 * MINUTE),
        ("2026-07-04-14:00:00", "", NOW - 30 * MINUTE, NOW - MINUTE),
        ("2026-07-04T15:00:00+02:00", "2026-07-04T14:00:00Z", NOW - 90 * MINUTE, NOW - 30 * MINUTE),
        ("2026-07-04-14:29:59", "2026-07-04-14:30", NOW - timedelta(seconds=1), NOW),
    ],
)
def test_what_is_left_out_of_an_interval_is_near_to_now(start: str, end: str, since: datetime, until: datetime) -> None:
    assert interval(start, end, NOW) == (since, until)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("soon", "", "'soon' is not a time"),
        ("", "later", "'later' is not a time"),
        ("2026-07-04-12:00", "2026-07-04-12:00", "is not after the start"),
        ("2026-07-04-12:00", "2026-07-04-11:00", "the end 2026-07-04 11:00:00 is not after the start 2026-07-04 12"),
        ("2026-07-04-14:30", "", "is not after the start"),
        ("1970-01-01", "", "the start 1970-01-01 00:00:00 is not a time of this network"),
        ("", "2026-07-04-14:30:01", "the end 2026-07-04 14:30:01 UTC has not come yet"),
    ],
)
def test_an_interval_that_is_none_is_told(start: str, end: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        interval(start, end, NOW)


@pytest.mark.parametrize(
    ("start", "end", "now", "first", "last"),
    [
        ("", "", NOW, 13, 14),
        ("", "", NOW - 25 * MINUTE, 13, 14),
        ("", "", NOW - 26 * MINUTE, 12, 13),
        ("2026-07-04-09:00", "", NOW, 9, 14),
        ("", "2026-07-04-12:00", NOW, 11, 12),
        ("2026-07-04-09:00", "2026-07-04-12:00", NOW, 9, 12),
    ],
)
def test_what_is_left_out_of_hours_is_settled(start: str, end: str, now: datetime, first: int, last: int) -> None:
    day = NOW.replace(minute=0)
    assert settled_hours(start, end, now, 5 * MINUTE) == (day.replace(hour=first), day.replace(hour=last))


@pytest.mark.parametrize(
    ("name", "full"), [("mine", "ad_hoc_mine"), ("ad_hoc_mine", "ad_hoc_mine"), ("2026", "ad_hoc_2026")]
)
def test_a_name_says_where_the_result_came_from(data: DataDirectory, host: Simulator, name: str, full: str) -> None:
    assert ad_hoc(data, host, name=name).full_name == full


@pytest.mark.parametrize("name", ["", "ad_hoc_", "../x", "a b", "x" * 60])
def test_a_name_that_cannot_be_one_is_told_before_anything_is_made(
    data: DataDirectory, host: Simulator, name: str
) -> None:
    wanted = ad_hoc(data, host, name=name)
    with pytest.raises(InvalidInput, match="cannot name a queue or stream"):
        wanted.into_queue(60)
    with pytest.raises(InvalidInput, match="cannot name a queue or stream"):
        list(wanted.into_stream(lambda _: lambda _: None))
    assert list(data.root.iterdir()) == []


def test_a_queue_gets_the_intervals_events_once(data: DataDirectory, host: Simulator) -> None:
    start, end = PAST.start + 5 * MINUTE, PAST.start + 9 * MINUTE
    told: list[Progress] = []
    wanted = ad_hoc(data, host, start=start, end=end, collections=POSTS)
    statistics = wanted.into_queue(60, told.append)
    assert statistics.end_cursor_reached
    assert statistics.gaps == ()
    assert queued(data) == simulated(events(start, end, *POSTS))
    assert told
    assert not data.lake.root.exists()


def test_a_queue_gets_only_what_is_asked_for(data: DataDirectory, host: Simulator) -> None:
    end = PAST.start + 10 * MINUTE
    did = events(PAST.start, end, *POSTS)[0].did
    statistics = ad_hoc(data, host, end=end, dids=(did,)).into_queue(60)
    assert (statistics.end_cursor_reached, statistics.gaps) == (True, ())
    own = [event for event in events(PAST.start, end) if event.did == did]
    assert queued(data) == simulated(own)


def test_time_that_runs_out_is_told(data: DataDirectory, host: Simulator) -> None:
    """The interval's end has passed by the clock, but not in the stream."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert not ad_hoc(data, host, start=PAST.start, end=soon, collections=POSTS).into_queue(0.5).end_cursor_reached


def test_hosts_that_are_named_are_asked_instead(data: DataDirectory, host: Simulator, tmp_path: Path) -> None:
    nobody = Settings(data_dir=data.root, hosts=("ws://127.0.0.1:1",))
    wanted = ad_hoc(data, host, settings=nobody, hosts=(host.address,), end=PAST.start + MINUTE)
    assert wanted.into_queue(60).hosts == (host.address.removeprefix("ws://"),)


def test_a_stream_gets_whole_hours_with_their_proofs(data: DataDirectory, host: Simulator) -> None:
    start, end = PAST.start - timedelta(hours=1), PAST.end
    refresh(data)
    before = data.warehouse.stat().st_ino
    heard: list[Window] = []
    wanted = ad_hoc(data, host, start=start, end=end, collections=POSTS)
    done = list(wanted.into_stream(lambda window: lambda _: heard.append(window)))
    assert [summary.window for summary in done] == [Window.hour(start), PAST]
    assert all(summary.state.is_whole for summary in done)
    assert [summary.events for summary in done] == [
        len(events(window.start, window.end, *POSTS)) for window in (Window.hour(start), PAST)
    ]
    assert set(heard) == {Window.hour(start), PAST}
    assert data.lake.streams() == ["ad_hoc_mine"]
    assert data.warehouse.stat().st_ino != before


def test_a_stream_gets_only_the_accounts_that_are_asked_for(data: DataDirectory, host: Simulator) -> None:
    one, other = list(dict.fromkeys(event.did for event in events(PAST.start, PAST.end)))[:2]
    with serving() as services, naming() as names:
        world = World(services, services, names, data.root / "unused")
        world.appview("alice.test", other)
        world.document(other, "at://alice.test")
        endpoints = world.endpoints
        settings = Settings(
            data_dir=data.root,
            hosts=(host.address,),
            appview=endpoints.appview,
            plc_directory=endpoints.plc,
            dns_server=endpoints.dns or "",
        )
        wanted = ad_hoc(data, host, settings=settings, dids=(one,), handles=("alice.test",))
        (summary,) = wanted.into_stream(lambda _: lambda _: None)
    found = pq.read_table(data.lake.events_path("ad_hoc_mine", PAST), columns=["did"])["did"].to_pylist()
    assert set(found) == {one, other}
    own = [event for event in events(PAST.start, PAST.end) if event.did in (one, other)]
    assert (summary.state.is_whole, len(found)) == (True, len(own))


def test_a_stream_takes_no_part_of_an_hour(data: DataDirectory, host: Simulator) -> None:
    wanted = ad_hoc(data, host, start=PAST.start + MINUTE)
    with pytest.raises(InvalidInput, match="not on the hour"):
        list(wanted.into_stream(lambda _: lambda _: None))
    assert not data.lake.root.exists()
