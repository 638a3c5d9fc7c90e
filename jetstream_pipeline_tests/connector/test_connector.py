"""The library's face: every argument does what it says, on either wire, against a simulated network."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jetstream_pipeline import JetstreamConnector, JetstreamRecord, Queue
from jetstream_pipeline.connector.statistics import Progress, Statistics
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator, running
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline_tests.connector.events import identity, simulated, stored
from jetstream_pipeline_tests.hostile import identity as identity_message
from jetstream_pipeline_tests.hostile import sending, serving

_NETWORK = Network(seed=13, rate=50)
_START = 60_000_000 * (int(time.time()) // 60 - 60)
_MINUTES = 60_000_000


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running(Simulator(_NETWORK, pong_timeout=60)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def events() -> list[SimulatedEvent]:
    """Twenty minutes of everything."""
    return list(_NETWORK.events(_START, _START + 20 * _MINUTES))


@pytest.fixture
def connector(tmp_path: Path) -> JetstreamConnector:
    return JetstreamConnector(data_dir=tmp_path)


def listen(connector: JetstreamConnector, host: Simulator, **options: Any) -> Statistics:
    """From the start of the network's hour, everything, 500 records, unless a test says otherwise."""
    options = {"wanted_collections": [], "target_count": 500, "max_time": 60, "cursor": _START, **options}
    return asyncio.run(connector.listen_until_count(host.address, **options))


def identities(connector: JetstreamConnector) -> list[Any]:
    return [identity(record) for record in stored(connector.queue)]


@pytest.mark.parametrize("wire", ["v1", "v2", None])
@pytest.mark.parametrize("compress", [False, True])
def test_either_wire_gives_the_same_records_compressed_or_not(
    simulator: Simulator,
    events: list[SimulatedEvent],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wire: str | None,
    compress: bool,
) -> None:
    path = tmp_path / "own.zdict"
    path.write_bytes(simulator.dictionary)
    monkeypatch.setenv("JETSTREAM_ZSTD_DICTIONARY", str(path))
    connector = JetstreamConnector(data_dir=tmp_path, wire=wire, compress=compress)
    statistics = listen(connector, simulator)
    assert [record.seq for record in stored(connector.queue)] == [event.seq for event in events[:500]]
    plain = statistics.messages_received * 400
    assert (statistics.bytes_received < plain) == compress


def test_the_statistics_add_up(
    simulator: Simulator, events: list[SimulatedEvent], connector: JetstreamConnector
) -> None:
    statistics = listen(connector, simulator, target_count=1000)
    assert (statistics.records_stored, statistics.queue_length) == (1000, 1000)
    assert statistics["records_stored"] == 1000
    assert statistics.messages_received >= 1000
    assert statistics.target_reached
    assert not statistics.end_cursor_reached
    assert statistics.collections == Counter(event.collection for event in events[:1000] if event.collection)
    assert statistics.latest_cursor == events[999].time_us
    assert statistics.current_date == f"{datetime.fromtimestamp(events[999].time_us / 1e6, UTC):%Y-%m-%d}"
    assert statistics.records_per_second == pytest.approx(1000 / statistics.total_time)
    assert (statistics.reconnections, statistics.repeats, statistics.quarantined) == (0, 0, 0)
    assert statistics.hosts == (simulator.address.removeprefix("ws://"),)
    assert statistics.bytes_received > 100_000


def test_collections_and_prefixes(
    simulator: Simulator, events: list[SimulatedEvent], connector: JetstreamConnector
) -> None:
    listen(connector, simulator, wanted_collections=["app.bsky.feed.post", "app.bsky.graph.*"])
    wanted = [
        event
        for event in events
        if event.collection in (None, "app.bsky.feed.post") or event.collection.startswith("app.bsky.graph.")
    ]
    assert identities(connector) == simulated(wanted[:500])


@pytest.mark.parametrize("wire", ["v1", "v2"])
@pytest.mark.parametrize("number", [3, 150])
def test_repositories(
    simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path, wire: str, number: int
) -> None:
    connector = JetstreamConnector(data_dir=tmp_path, wire=wire)
    dids = [did for did, _ in Counter(event.did for event in events).most_common(number)]
    wanted = [event for event in events if event.did in dids]
    listen(connector, simulator, wanted_dids=dids, target_count=len(wanted))
    assert identities(connector) == simulated(wanted)


def test_more_repositories_than_a_url_holds(
    simulator: Simulator, events: list[SimulatedEvent], connector: JetstreamConnector
) -> None:
    dids = list(dict.fromkeys(event.did for event in events))[:1500]
    dids += [f"did:plc:{number:024d}" for number in range(10_000 - len(dids))]
    wanted = [event for event in events if event.did in set(dids)]
    listen(connector, simulator, wanted_dids=dids, target_count=1000)
    assert identities(connector) == simulated(wanted[:1000])
    with pytest.raises(InvalidInput, match="10001 DIDs are too many"):
        listen(connector, simulator, wanted_dids=[*dids, "did:plc:one"])


def test_more_repositories_than_a_url_holds_cannot_be_asked_for_on_v2(simulator: Simulator, tmp_path: Path) -> None:
    connector = JetstreamConnector(data_dir=tmp_path, wire="v2")
    with pytest.raises(InvalidInput, match="more than a URL holds"):
        listen(connector, simulator, wanted_dids=[f"did:plc:{number:024d}" for number in range(201)])


@pytest.mark.parametrize("wire", ["v1", "v2"])
@pytest.mark.parametrize("kinds", [["identity"], ["identity", "account"], ["commit"]])
def test_kinds(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path, wire: str, kinds: list[str]) -> None:
    connector = JetstreamConnector(data_dir=tmp_path, wire=wire)
    wanted = [event for event in events if event.kind in kinds][:20]
    listen(connector, simulator, kinds=kinds, target_count=20)
    assert identities(connector) == simulated(wanted)


@pytest.mark.parametrize("past", [0, 1])
def test_the_end_is_reached_and_nothing_at_or_after_it_is_stored(
    simulator: Simulator, events: list[SimulatedEvent], connector: JetstreamConnector, past: int
) -> None:
    end = events[700].time_us + past
    expected = [event for event in events if event.time_us < end]
    statistics = listen(connector, simulator, target_count=0, end_timestamp=end)
    assert statistics.end_cursor_reached
    assert not statistics.target_reached
    assert len(identities(connector)) == next(n for n, event in enumerate(events) if event.time_us >= end)
    assert set(identities(connector)) <= set(simulated(expected))


def test_a_moment_may_be_a_number_a_text_or_a_datetime(
    simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path
) -> None:
    moment = datetime.fromtimestamp(_START / 1e6, UTC) + timedelta(minutes=3)
    first = next(event for event in events if event.time_us >= _START + 3 * _MINUTES)
    given = [
        _START + 3 * _MINUTES,
        str(_START + 3 * _MINUTES),
        f"{moment:%Y-%m-%d-%H:%M:%S}",
        moment.isoformat(),
        moment,
    ]
    for number, cursor in enumerate([*given, moment.replace(tzinfo=None)]):
        connector = JetstreamConnector(f"queue_{number}", data_dir=tmp_path)
        listen(connector, simulator, cursor=cursor, target_count=1)
        assert identities(connector) == simulated([first])


def test_a_sequence_number_is_a_cursor_too(
    simulator: Simulator, events: list[SimulatedEvent], connector: JetstreamConnector
) -> None:
    listen(connector, simulator, cursor=events[123].seq, target_count=10)
    assert identities(connector) == simulated(events[123:133])


def test_without_a_cursor_it_begins_now(simulator: Simulator, connector: JetstreamConnector) -> None:
    before = time.time()
    listen(connector, simulator, cursor=None, target_count=20)
    assert all(record.time.timestamp() > before - 2 for record in stored(connector.queue))


@pytest.mark.parametrize("wire", ["v1", "v2"])
def test_time_is_up_also_when_the_stream_is_silent(simulator: Simulator, tmp_path: Path, wire: str) -> None:
    connector = JetstreamConnector(data_dir=tmp_path, wire=wire)
    began = time.monotonic()
    statistics = listen(connector, simulator, cursor=None, wanted_dids=["did:plc:nobody"], target_count=0, max_time=2)
    assert 2 <= time.monotonic() - began < 60
    assert statistics.records_stored == 0
    assert not statistics.target_reached


@pytest.mark.usefixtures("queue_place")
def test_a_run_goes_on_where_the_last_one_stopped_and_every_run_without_resume_is_its_own(
    simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path
) -> None:
    for count in (700, 13, 800):
        statistics = listen(JetstreamConnector(data_dir=tmp_path), simulator, target_count=count, resume=True)
        assert statistics.records_stored == count
    connector = JetstreamConnector(data_dir=tmp_path)
    assert identities(connector) == simulated(events[:1513])
    listen(connector, simulator, target_count=50)
    assert identities(connector)[1513:] == simulated(events[:50])


def test_another_stream_has_its_own_place(
    simulator: Simulator, events: list[SimulatedEvent], connector: JetstreamConnector
) -> None:
    listen(connector, simulator, target_count=500)
    posts = [event for event in events if event.collection in (None, "app.bsky.feed.post")]
    options = {"wanted_collections": ["app.bsky.feed.post"], "target_count": 10, "resume": True}
    listen(connector, simulator, **options)
    assert identities(connector)[500:] == simulated(posts[:10])


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_so_many_records_go_into_one_transaction(simulator: Simulator, tmp_path: Path, batch_size: int) -> None:
    connector = JetstreamConnector("batches", batch_size, data_dir=tmp_path)
    listen(connector, simulator, target_count=50)
    queue = Queue("batches", data_dir=tmp_path)
    sizes = Counter(item.created_at for item in queue.peek(None)).values()
    assert max(sizes) == min(batch_size, 50)
    assert sum(sizes) == 50


def test_callbacks_see_each_event_after_it_was_stored(
    simulator: Simulator, events: list[SimulatedEvent], connector: JetstreamConnector
) -> None:
    seen: list[JetstreamRecord] = []

    async def slowly(record: JetstreamRecord) -> None:
        await asyncio.sleep(0)
        seen.append(record)

    listen(connector, simulator, on_event=seen.append, target_count=300)
    listen(connector, simulator, on_event=slowly, target_count=200)
    assert [identity(record) for record in seen] == simulated(events[:300]) + simulated(events[:200])


def test_what_a_callback_raises_ends_the_run_and_what_came_is_stored(
    simulator: Simulator, connector: JetstreamConnector
) -> None:
    def fail(record: JetstreamRecord) -> None:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        listen(connector, simulator, on_event=fail)
    assert identities(connector)


def test_without_a_queue_only_the_callback_is_served(
    simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path
) -> None:
    seen: list[JetstreamRecord] = []
    statistics = listen(JetstreamConnector(None, data_dir=tmp_path), simulator, on_event=seen.append)
    assert [identity(record) for record in seen] == simulated(events[:500])
    assert (statistics.records_stored, statistics.queue_length) == (500, None)
    assert not list(tmp_path.iterdir())


def test_events_come_by_async_for(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path) -> None:
    async def take() -> list[JetstreamRecord]:
        connector = JetstreamConnector(None, data_dir=tmp_path)
        options: dict[str, Any] = {"wanted_collections": ["app.bsky.feed.like"], "kinds": ["commit"], "cursor": _START}
        found = [record async for record in connector.events(simulator.address, target_count=30, **options)]
        async for record in connector.events(simulator.address, **options):
            found.append(record)
            if len(found) == 40:
                break
        return found

    likes = [event for event in events if event.collection == "app.bsky.feed.like"]
    assert [identity(record) for record in asyncio.run(take())] == simulated(likes[:30]) + simulated(likes[:10])


def test_a_stop_ends_the_run_and_what_came_is_stored(simulator: Simulator, connector: JetstreamConnector) -> None:
    async def stopped() -> Statistics:
        stop = asyncio.Event()

        def enough(progress: Progress) -> None:
            if progress.records >= 20:
                stop.set()

        options: dict[str, Any] = {"target_count": 0, "max_time": 0, "on_progress": enough, "stop": stop}
        return await connector.listen_until_count(simulator.address, [], **options)

    statistics = asyncio.run(stopped())
    assert statistics.records_stored == len(identities(connector)) >= 20


def test_progress_tells_how_far_it_is(simulator: Simulator, connector: JetstreamConnector) -> None:
    told: list[Progress] = []
    statistics = listen(connector, simulator, on_progress=told.append)
    last = told[-1]
    assert (last.records, last.bytes_received) == (500, statistics.bytes_received)
    assert last.position_us >= _START
    assert last.seconds > 0


def test_what_is_no_event_is_kept_with_its_bytes_and_the_reason(tmp_path: Path) -> None:
    deep = identity_message(_START + 3, 3).replace('"seq"', f'"x": {"[" * 900}{"]" * 900}, "seq"')
    messages = [identity_message(_START + 1, 1), "garbage", deep, identity_message(_START + 4, 4)]
    seen: list[JetstreamRecord] = []
    connector = JetstreamConnector("odd", data_dir=tmp_path)
    with serving(sending(messages)) as host:
        statistics = asyncio.run(connector.listen_until_count(host.address, [], 3, 30, _START, on_event=seen.append))
    assert statistics.records_stored == 3
    assert [record.time_us for record in seen] in ([_START + 1, _START + 4], [_START + 1, _START + 3, _START + 4])
    kept = f"read_parquet('{tmp_path}/quarantine/odd/*/*/*.parquet')"
    rows = duckdb.sql(f"SELECT message, position_us FROM {kept} ORDER BY position_us").fetchall()
    assert len(rows) == statistics.quarantined == 4 - len(seen)
    assert rows[0] == (b"garbage", _START + 1)


def test_a_queue_that_cannot_be_written_ends_the_run_and_the_next_one_lacks_nothing(
    simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path
) -> None:
    connector = JetstreamConnector(data_dir=tmp_path)
    assert connector.queue
    path = connector.queue.path

    def break_it(record: JetstreamRecord) -> None:  # the first batch, up to 20,000 events, is stored by then
        if path.is_file():
            path.rename(path.with_suffix(".away"))
            path.mkdir()

    with pytest.raises((StorageError, RuntimeError)):
        listen(connector, simulator, target_count=25_000, resume=True, on_event=break_it)
    path.rmdir()
    path.with_suffix(".away").rename(path)
    before = len(identities(connector))
    listen(connector, simulator, target_count=1000, resume=True)
    assert identities(connector) == simulated(islice(events, before + 1000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wanted_collections": ["nonsense"]}, "is not a collection"),
        ({"wanted_collections": "app.bsky.feed.post"}, "give a list"),
        ({"wanted_dids": ["me"]}, "is not a DID"),
        ({"wanted_handles": ["not a handle"]}, "handle"),
        ({"kinds": ["sync"]}, "is not a kind"),
        ({"target_count": -1}, "target_count"),
        ({"max_time": -1}, "max_time"),
        ({"cursor": -1}, "cursor"),
        ({"cursor": 1_783_166_400_000}, "16 digits"),
        ({"cursor": 9_783_166_400_000_000}, "future"),
        ({"cursor": "yesterday"}, "is not a time"),
        ({"end_timestamp": "tomorrow"}, "is not a time"),
        ({"cursor": None, "end_timestamp": "2026-01-31"}, "has passed; say where to begin"),
        ({"cursor": "2026-01-31", "end_timestamp": "2026-01-31"}, "the end is not after the start"),
        ({"cursor": "2026-01-31", "end_timestamp": "2026-01-30"}, "the end is not after the start"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    simulator: Simulator, connector: JetstreamConnector, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as told:
        listen(connector, simulator, **options)
    assert "\n" not in str(told.value)


def test_without_a_queue_there_is_nothing_to_resume(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="queue_name"):
        listen(JetstreamConnector(None, data_dir=tmp_path), simulator, resume=True)


def test_names_and_sizes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="batch_size=0"):
        JetstreamConnector(batch_size=0, data_dir=tmp_path)
    with pytest.raises(InvalidInput, match="wire='v3'"):
        JetstreamConnector(wire="v3", data_dir=tmp_path)
    for name in ("../queue", ""):
        with pytest.raises(InvalidInput):
            JetstreamConnector(name, data_dir=tmp_path)


def test_none_is_no_bound(simulator: Simulator, connector: JetstreamConnector) -> None:
    listen(connector, simulator, target_count=None, max_time=1.0)
    listen(connector, simulator, target_count=5, max_time=None)
