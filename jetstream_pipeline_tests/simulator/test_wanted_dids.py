"""A subscription to some repositories: it receives what it would of whole pages, and whole pages are not rendered."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import zstandard
from websockets.asyncio.client import ClientConnection

from jetstream_pipeline.simulator import Faults, Network, SimulatedEvent, Simulator, Witness, running
from jetstream_pipeline.simulator.blindness import Blind
from jetstream_pipeline.simulator.faults import Crash, Cut, Duplicate, Fault, Oversized, Reorder, ServeEarly, Slow
from jetstream_pipeline.simulator.feeds import Feed
from jetstream_pipeline.simulator.rewitnessing import rewitnessed
from jetstream_pipeline.simulator.timeline import Position
from jetstream_pipeline.simulator.witness import Witnessed
from jetstream_pipeline_tests.simulator.conftest import (
    MINUTE_US,
    NOON_US,
    V1,
    V2,
    Clock,
    Start,
    options_update,
    receive,
    subscribed,
)
from jetstream_pipeline_tests.simulator.test_endings import until_the_end

_NOON = NOON_US // MINUTE_US
_FROM = NOON_US - 5 * MINUTE_US
_NOBODY = "did:plc:nobodynobodynobodynobody"
_OFFSET = Witness(offset=timedelta(seconds=-7), seq_offset=999, seed=40)
_JITTERY = Witness(offset=timedelta(seconds=3), jitter=timedelta(seconds=4), seq_offset=12_345, imported=0.3, seed=5)
_SILENCE_SEC = 0.3
_GROUPS = 12
_EDGE = 5

both_wires = pytest.mark.parametrize("path", [V1, V2])


def spelled(path: str, events: Sequence[SimulatedEvent]) -> list[bytes]:
    return [event.message if path == V1 else event.message_v2 for event in events]


def of(dids: Sequence[str], events: Sequence[SimulatedEvent]) -> list[SimulatedEvent]:
    return [event for event in events if event.did in dids]


def query(path: str, dids: Sequence[str], cursor: int | None = _FROM) -> str:
    name = "wantedDids" if path == V1 else "dids"
    parameters = [f"{name}={did}" for did in dids]
    return "&".join(parameters if cursor is None else [f"cursor={cursor}", *parameters])


async def silence(connection: ClientConnection) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connection.recv(), _SILENCE_SEC)


def some_dids(events: Sequence[SimulatedEvent]) -> list[str]:
    """A busy repository, two quiet ones, one that is born, and nobody's."""
    number = {event.did: 0 for event in events}
    for event in events:
        number[event.did] += 1
    by_number = sorted(number, key=number.__getitem__)
    born = next(event.did for event in events if event.kind == "account")
    return [by_number[-1], by_number[0], by_number[1], born, _NOBODY]


def moment(events: Sequence[SimulatedEvent], near: int) -> int:
    """The place of an event that is later than all before it."""
    return next(at for at in range(near, len(events)) if events[at].time_us > max(e.time_us for e in events[:at]))


@pytest.fixture(scope="module")
def events(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM, NOON_US))


def crashed(network: Network) -> Feed:
    return rewitnessed(network, Position(_NOON, network.page(_NOON)[40].seq), 900)


_FEEDS: dict[str, Callable[[Network], Feed]] = {
    "network": lambda network: network,
    "offset": lambda network: Witnessed(network, _OFFSET),
    "jitter": lambda network: Witnessed(network, _JITTERY),
    "blind": lambda network: Blind(network, 0.4, 1),
    "blind with jitter": lambda network: Blind(Witnessed(network, _JITTERY), 0.4, 1),
    "crashed": crashed,
    "crashed with offset": lambda network: rewitnessed(Witnessed(network, _OFFSET), Position(_NOON + 1, 0), 700),
}


@pytest.mark.parametrize("make", _FEEDS.values(), ids=_FEEDS)
def test_the_parts_of_a_page_are_the_page(network: Network, make: Callable[[Network], Feed]) -> None:
    feed = make(network)
    for minute in range(_NOON - 1, _NOON + 2):
        page = feed.page(minute)
        everybody = sorted({event.did for near in (minute - 1, minute, minute + 1) for event in network.page(near)})
        groups = [frozenset(everybody[group::_GROUPS]) for group in range(_GROUPS)]
        at_the_edges = [frozenset({event.did}) for event in (*page[:_EDGE], *page[-_EDGE:])]
        for dids in (*groups, *at_the_edges):
            assert feed.part(minute, dids) == of(list(dids), page)
        assert feed.part(minute, frozenset(everybody)) == page
        assert not feed.part(minute, frozenset({_NOBODY}))


@pytest.mark.parametrize("rate", [1.0, 5.0, 200.0])
@pytest.mark.parametrize("minute", [_NOON, _NOON - 17 * 60 - 1, 59_000_000])
def test_a_part_needs_no_page_before_it(rate: float, minute: int) -> None:
    page = Network(3, rate).page(minute)
    for share in (1, 7):
        dids = frozenset(event.did for event in page[::share])
        assert Network(3, rate).part(minute, dids) == [event for event in page if event.did in dids]


@pytest.mark.parametrize(("path", "compressed"), [(V1, False), (V2, True)])
@pytest.mark.parametrize(
    "options",
    [{}, {"witness": _OFFSET}, {"witness": _JITTERY}, {"blind": 0.3}, {"page_cache_bytes": 1}],
    ids=lambda options: "".join(options),
)
async def test_it_receives_its_events_and_then_the_live_ones(
    start: Start, clock: Clock, path: str, compressed: bool, options: dict[str, Any]
) -> None:
    clock.now_us = NOON_US + 20_000_000
    simulator = start(**options)
    dids = some_dids(list(simulator.events(_FROM, clock.now_us)))
    expected = of(dids, list(simulator.events(_FROM, clock.now_us + 2 * MINUTE_US)))
    asked = query(path, dids)
    decompressor = zstandard.ZstdDecompressor()
    if compressed:
        dictionary = zstandard.ZstdCompressionDict(simulator.dictionary if path == V1 else simulator.dictionary_v2)
        decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)
        asked += "&compress=true" if path == V1 else f"&zstdDictionary={dictionary.dict_id()}"
    async with subscribed(simulator, asked, path=path) as connection, asyncio.timeout(60):
        received: list[bytes] = []
        while len(received) < len(expected):
            try:
                received.append(await asyncio.wait_for(connection.recv(decode=False), _SILENCE_SEC))
            except TimeoutError:
                clock.now_us = min(clock.now_us + 30_000_000, NOON_US + 140_000_000)
    if compressed:
        received = [decompressor.decompressobj().decompress(message) for message in received]
    assert received == spelled(path, expected)


@both_wires
@pytest.mark.parametrize("share", [0.3, 0.5])
async def test_cursors_are_as_exact_as_for_everybody(
    start: Start, events: list[SimulatedEvent], path: str, share: float
) -> None:
    simulator = start()
    dids = some_dids(events)[: 4 if share < 0.5 else 1]
    first = of(dids, events)[int(len(of(dids, events)) * share)]
    for cursor in (first.seq, first.seq + 1, first.time_us, first.time_us + 1):
        if cursor < 10**15:
            rest = [event for event in events if event.seq >= cursor]
        else:
            rest = events[next(at for at, event in enumerate(events) if event.time_us >= cursor) :]
        expected = spelled(path, of(dids, rest))
        async with subscribed(simulator, query(path, dids, cursor), path=path) as connection:
            assert await receive(connection, len(expected)) == expected
            await silence(connection)


@both_wires
async def test_other_filters_apply_besides(start: Start, network: Network, path: str) -> None:
    begin = NOON_US - 30 * MINUTE_US
    events = list(network.events(begin, NOON_US))
    dids = some_dids(events)
    posts = [event for event in of(dids, events) if event.collection == "app.bsky.feed.post"]
    assert posts
    name = "wantedCollections" if path == V1 else "kinds=commit&collections"
    others = [event for event in of(dids, events) if event.collection is None] if path == V1 else []
    expected = spelled(path, sorted([*posts, *others], key=lambda event: event.seq))
    asked = f"{query(path, dids, begin)}&{name}=app.bsky.feed.post"
    async with subscribed(start(), asked, path=path) as connection:
        assert await receive(connection, len(expected)) == expected


async def test_an_announcement_names_the_oldest_event_of_all(start: Start, network: Network) -> None:
    kept = list(network.events(NOON_US - 90_000_000, NOON_US))
    dids = [kept[-1].did]
    async with subscribed(start(lookback=timedelta(seconds=90)), query(V2, dids), path=V2) as connection:
        info = json.loads(await connection.recv())
        assert info["payload"]["message"].endswith(f"starting at seq {kept[0].seq}")
        assert await receive(connection, len(of(dids, kept))) == spelled(V2, of(dids, kept))


class _Counting(Network):
    """Remembers which pages were asked for, and of which only parts."""

    def __init__(self, network: Network) -> None:
        super().__init__(network.seed, network.rate)
        self.pages: set[int] = set()
        self.parts: set[int] = set()

    def page(self, minute: int) -> list[SimulatedEvent]:
        self.pages.add(minute)
        return super().page(minute)

    def part(self, minute: int, dids: frozenset[str]) -> list[SimulatedEvent]:
        self.parts.add(minute)
        return super().part(minute, dids)


@pytest.fixture(scope="module")
def late_did(network: Network) -> str:
    """A repository whose first event of the hour is on the last page but one."""
    earlier = {event.did for event in network.events(NOON_US - 63 * MINUTE_US, NOON_US - 2 * MINUTE_US)}
    return next(event.did for event in network.page(_NOON - 2)[500:] if event.did not in earlier)


@pytest.mark.parametrize(("path", "by_time"), [(V1, True), (V2, True), (V1, False)])
@pytest.mark.parametrize("witness", [None, _JITTERY])
async def test_a_scan_renders_no_page_on_which_nothing_is_wanted(
    network: Network, late_did: str, clock: Clock, path: str, by_time: bool, witness: Witness | None
) -> None:
    counting = _Counting(network)
    with running(Simulator(counting, clock=clock, witness=witness)) as simulator:
        cursor = NOON_US - 60 * MINUTE_US if by_time else simulator.pages.feed.page(_NOON - 60)[7].seq
        counting.pages.clear()
        async with subscribed(simulator, query(path, [_NOBODY, late_did], cursor), path=path) as connection:
            message = json.loads(await connection.recv())
        assert message.get("payload", message)["did"] == late_did
        assert counting.parts >= set(range(_NOON - 59, _NOON - 1))
        # The present is rendered ahead, and the neighbours of a page that a jittery witness renders.
        assert min(counting.pages, default=_NOON) >= (_NOON if witness is None else _NOON - 5)


@both_wires
async def test_whole_pages_that_are_at_hand_are_used(
    network: Network, events: list[SimulatedEvent], clock: Clock, path: str
) -> None:
    counting = _Counting(network)
    expected = spelled(path, of(some_dids(events), events))
    with running(Simulator(counting, clock=clock)) as simulator:
        async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
            await receive(connection, len(events))
        counting.pages.clear()
        async with subscribed(simulator, query(path, some_dids(events)), path=path) as connection:
            assert await receive(connection, len(expected)) == expected
    # The wire's own pages are at hand, and those of the first one only where it is the first.
    assert not counting.parts - ({_NOON - 5} if path == V2 else set())
    assert not counting.pages & set(range(_NOON - 4, _NOON))


async def test_subscribers_to_others_and_to_all_do_not_disturb_each_other(
    start: Start, events: list[SimulatedEvent]
) -> None:
    simulator = start()
    some = some_dids(events)

    async def check(dids: list[str]) -> None:
        expected = spelled(V1, of(dids, events) if dids else events)
        async with subscribed(simulator, query(V1, dids)) as connection:
            assert await receive(connection, len(expected)) == expected
            await silence(connection)

    await asyncio.gather(*(check(dids) for dids in ([], some[:1], some[1:3], some, some, [_NOBODY], [])))


@both_wires
@pytest.mark.parametrize(
    ("fault", "order"),
    [
        (Cut(10), lambda events: events[:10]),
        (Cut(0), lambda events: []),
        (Duplicate(10, 3), lambda events: [*events[:10], *events[7:]]),
        (Oversized(10, 5_000), lambda events: [*events[:10], None, *events[10:]]),
        (Reorder(3, 20), None),
    ],
    ids=lambda value: repr(value) if isinstance(value, Fault) else "",
)
async def test_faults_count_the_events_that_are_sent(
    start: Start,
    events: list[SimulatedEvent],
    path: str,
    fault: Fault,
    order: Callable[[list[SimulatedEvent]], list[SimulatedEvent | None]] | None,
) -> None:
    dids = some_dids(events)
    mine = of(dids, events)
    simulator = start(faults=Faults(script=(fault,)))
    async with subscribed(simulator, query(path, dids), path=path) as connection:
        if isinstance(fault, Cut):
            received, closed = await until_the_end(connection)
            assert closed.rcvd is None
        else:
            received = await receive(connection, len(mine) if order is None else len(order(mine)))
    if order is None:
        assert received != spelled(path, mine)
        assert sorted(received) == sorted(spelled(path, mine))
        return
    for event, message in zip(order(mine), received, strict=True):
        if event is None:
            payload = json.loads(message)
            assert payload.get("payload", payload).get("seq", payload.get("cursor")) == mine[9].seq
        else:
            assert message == spelled(path, [event])[0]


async def test_a_made_up_post_before_all_others_stands_at_the_cursor(
    start: Start, events: list[SimulatedEvent]
) -> None:
    simulator = start(faults=Faults(script=(Oversized(0, 5_000),)))
    first = events[moment(events, 700)]
    async with subscribed(simulator, query(V1, [_NOBODY], first.time_us)) as connection:
        assert json.loads(await connection.recv())["cursor"] == first.seq - 1


async def test_connections_are_cut_after_so_many_of_its_events_or_at_one(
    start: Start, events: list[SimulatedEvent]
) -> None:
    dids = some_dids(events)
    mine = of(dids, events)
    seqs = frozenset({mine[15].seq, of([events[700].did], events)[0].seq})
    simulator = start(faults=Faults(cut_after_events=(0, 5, 100_000), cut_at_seqs=seqs))
    for number in (0, 5, 16):
        async with subscribed(simulator, query(V1, dids)) as connection:
            received, closed = await until_the_end(connection)
        assert received == spelled(V1, mine[:number])
        assert closed.rcvd is None


async def test_a_cut_before_the_first_event_waits_for_no_event_of_these(start: Start) -> None:
    simulator = start(faults=Faults(cut_after_events=(0,)))
    async with subscribed(simulator, query(V1, [_NOBODY])) as connection, asyncio.timeout(60):
        assert (await until_the_end(connection))[0] == []


@both_wires
@pytest.mark.parametrize("after", [0, 8])
async def test_a_crash_strikes_at_the_event_that_was_sent_last(
    start: Start, network: Network, events: list[SimulatedEvent], path: str, after: int
) -> None:
    dids, lost = some_dids(events) if after else [_NOBODY], 700
    first = events[moment(events, 2_000)]
    mine = of(dids, events[events.index(first) :])
    simulator = start(faults=Faults(script=(Crash(after, lost),)))
    async with subscribed(simulator, query(path, dids, first.time_us), path=path) as connection:
        received, _ = await until_the_end(connection)
    assert received == spelled(path, mine[:after])
    before = list(network.events(NOON_US - 15 * MINUTE_US, NOON_US))
    struck = before.index(mine[after - 1]) + 1 if after else before.index(first)
    now = list(simulator.events(NOON_US - 15 * MINUTE_US, NOON_US))
    changed = [at for at, (old, new) in enumerate(zip(before, now, strict=True)) if old != new]
    assert changed[0] == struck - lost
    assert struck + lost - 50 < changed[-1] < struck + lost
    expected = spelled(path, of(dids, now))
    async with subscribed(simulator, query(path, dids, NOON_US - 15 * MINUTE_US), path=path) as connection:
        assert await receive(connection, len(expected)) == expected
        await silence(connection)


@both_wires
async def test_a_stream_that_starts_early_does_so_for_some_repositories(
    start: Start, events: list[SimulatedEvent], path: str
) -> None:
    dids = some_dids(events)
    simulator = start(faults=Faults(script=(ServeEarly(3.5),)))
    early = list(simulator.events(_FROM + MINUTE_US // 2, NOON_US))
    async with subscribed(simulator, query(path, dids, _FROM + 4 * MINUTE_US), path=path) as connection:
        expected = spelled(path, of(dids, early))
        assert await receive(connection, len(expected)) == expected


@pytest.mark.parametrize("cursor", [_FROM, NOON_US + 5_000_000])
async def test_an_update_at_the_tip_applies_from_there_on(
    start: Start, clock: Clock, network: Network, cursor: int
) -> None:
    clock.now_us = NOON_US + 20_000_000
    simulator = start()
    latest = list(network.events(cursor, clock.now_us + 1))
    mine = [latest[-1].did]
    async with subscribed(simulator, query(V1, mine, cursor)) as connection:
        expected = spelled(V1, of(mine, latest))
        assert await receive(connection, len(expected)) == expected
        await connection.send(options_update())
        await (await connection.ping())
        clock.now_us += 30_000_000
        live = [event for event in network.page(_NOON) if NOON_US + 20_000_000 < event.time_us <= clock.now_us]
        assert await receive(connection, len(live)) == spelled(V1, live)


async def test_an_update_before_the_first_event_applies_from_the_cursor_on(
    start: Start, events: list[SimulatedEvent]
) -> None:
    simulator = start()
    dids = some_dids(events)
    begin = moment(events, 700)
    for cursor in (events[begin].seq, events[begin].time_us):
        async with subscribed(simulator, f"{query(V1, [_NOBODY], cursor)}&requireHello=true") as connection:
            await silence(connection)
            await connection.send(options_update(wantedDids=dids))
            expected = spelled(V1, of(dids, events[begin:]))
            assert await receive(connection, len(expected)) == expected


class _Slow(Network):
    """Leaves a subscriber time to say something while its first page is made."""

    def part(self, minute: int, dids: frozenset[str]) -> list[SimulatedEvent]:
        time.sleep(_SILENCE_SEC)
        return super().part(minute, dids)


@pytest.mark.parametrize("by_time", [True, False])
async def test_an_update_while_the_first_page_is_made_applies_from_the_cursor_on(
    network: Network, clock: Clock, events: list[SimulatedEvent], by_time: bool
) -> None:
    first = events[moment(events, 700)]
    expected = spelled(V1, events[events.index(first) :])
    with running(Simulator(_Slow(network.seed, network.rate), clock=clock)) as simulator:
        cursor = first.time_us if by_time else first.seq
        async with subscribed(simulator, query(V1, [_NOBODY], cursor)) as connection:
            await connection.send(options_update())
            assert await receive(connection, len(expected)) == expected


async def test_an_update_applies_to_the_rest_of_a_page(
    busy_network: Network, busy_events: list[SimulatedEvent], clock: Clock
) -> None:
    """The first filter wants half of the first page; while that comes slowly, it is replaced."""
    clock.now_us = NOON_US + 4 * MINUTE_US
    half = sorted({event.did for event in busy_events[:6_000]})[::2]
    blocks = [event for event in busy_events if event.collection in (None, "app.bsky.graph.block")]
    simulator = Simulator(busy_network, clock=clock, faults=Faults(script=(Slow(1_000_000),)))
    with running(simulator):
        asked = f"cursor={busy_events[0].seq}&requireHello=true"
        async with subscribed(simulator, asked, max_queue=None) as connection:
            await connection.send(options_update(wantedDids=half))
            received = await receive(connection, 1)
            await connection.send(options_update(wantedCollections=["app.bsky.graph.block"]))
            async with asyncio.timeout(60):
                while received[-1] != blocks[-1].message:
                    received.append(await connection.recv(decode=False))
    mine = of(half, busy_events)
    compared = enumerate(zip(mine, received, strict=False))
    sent = next(number for number, (event, message) in compared if event.message != message)
    assert 0 < sent < len(mine)
    assert received[sent:] == spelled(V1, [event for event in blocks if event.seq > mine[sent - 1].seq])
