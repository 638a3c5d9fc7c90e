"""Faults in what is sent, after which the stream goes on, on both wires."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import zstandard
from websockets.exceptions import ConnectionClosed

from jetstream_pipeline.simulator import Faults, Network, SimulatedEvent
from jetstream_pipeline.simulator.faults import (
    Duplicate,
    Fault,
    Garbage,
    Oversized,
    Reorder,
    ServeEarly,
    Slow,
)
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V1, V2, Start, receive, subscribed

_FROM = NOON_US - 4 * MINUTE_US
Spell = Callable[[SimulatedEvent], bytes]
on_both_wires = pytest.mark.parametrize(
    ("path", "spell"), [(V1, lambda event: event.message), (V2, lambda event: event.message_v2)]
)


@pytest.fixture(scope="module")
def events(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM, NOON_US))


async def received(start: Start, fault: Fault | None, number: int, *, path: str, query: str = "") -> list[bytes]:
    simulator = start(faults=Faults(script=(fault,)))
    async with subscribed(simulator, f"cursor={_FROM}{query}", path=path) as connection, asyncio.timeout(60):
        return await receive(connection, number)


@on_both_wires
@pytest.mark.parametrize(("after", "count"), [(1, 1), (50, 20), (2600, 2500), (10, 100)])
async def test_events_come_twice(
    start: Start, events: list[SimulatedEvent], path: str, spell: Spell, after: int, count: int
) -> None:
    expected = [*events[:after], *events[max(0, after - count) : after], *events[after:]]
    messages = await received(start, Duplicate(after, count), len(expected), path=path)
    assert messages == [spell(event) for event in expected]


@on_both_wires
@pytest.mark.parametrize(("after", "count"), [(0, 10), (50, 200), (1000, 2500)])
async def test_events_come_in_another_order(
    start: Start, events: list[SimulatedEvent], path: str, spell: Spell, after: int, count: int
) -> None:
    messages = await received(start, Reorder(after, count), len(events), path=path)
    in_order = [spell(event) for event in events]
    assert messages[:after] == in_order[:after]
    assert messages[after + count :] == in_order[after + count :]
    reordered = messages[after : after + count]
    assert sorted(reordered) == sorted(in_order[after : after + count])
    assert reordered != in_order[after : after + count]
    told_by = {spell(event): event for event in events}
    by_repository: dict[str, list[int]] = {}
    for message in reordered:
        by_repository.setdefault(told_by[message].did, []).append(told_by[message].seq)
    assert all(seqs == sorted(seqs) for seqs in by_repository.values())


@on_both_wires
async def test_duplicates_and_disorder_keep_to_the_filter(
    start: Start, events: list[SimulatedEvent], path: str, spell: Spell
) -> None:
    name = "wantedCollections" if path == V1 else "kinds=commit&collections"
    likes = [
        event for event in events if event.collection == "app.bsky.feed.like" or (path == V1 and not event.collection)
    ]
    query = f"&{name}=app.bsky.feed.like"
    messages = await received(start, Duplicate(30, 10), len(likes) + 10, path=path, query=query)
    assert messages == [spell(event) for event in (*likes[:30], *likes[20:30], *likes[30:])]
    messages = await received(start, Reorder(30, 100), len(likes), path=path, query=query)
    assert sorted(messages) == sorted(spell(event) for event in likes)
    assert messages != [spell(event) for event in likes]


@on_both_wires
@pytest.mark.parametrize("binary", [True, False])
async def test_garbage_is_one_message(
    start: Start, events: list[SimulatedEvent], path: str, spell: Spell, binary: bool
) -> None:
    payload = b"\xff\x00{" if binary else b"[}"
    simulator = start(faults=Faults(script=(Garbage(5, payload, binary),)))
    async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
        before = [await connection.recv() for _ in range(5)]
        garbage = await connection.recv()
        after = [await connection.recv() for _ in range(5)]
    assert garbage == (payload if binary else payload.decode())
    assert [*before, *after] == [spell(event).decode() for event in events[:10]]


@on_both_wires
@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize("compressed", [True, False])
async def test_an_oversized_post_is_an_event_of_so_many_bytes(
    start: Start, events: list[SimulatedEvent], path: str, spell: Spell, after: int, compressed: bool
) -> None:
    simulator = start(faults=Faults(script=(Oversized(after, 3_000_000),)))
    query, shared = f"cursor={_FROM}", simulator.dictionary if path == V1 else simulator.dictionary_v2
    dictionary = zstandard.ZstdCompressionDict(shared)
    if compressed:
        query += "&compress=true" if path == V1 else f"&zstdDictionary={dictionary.dict_id()}"
    async with subscribed(simulator, query, path=path) as connection:
        messages = await receive(connection, after + 3)
    if compressed:
        decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)
        messages = [decompressor.decompressobj().decompress(frame) for frame in messages]
    oversized = messages.pop(after)
    assert messages == [spell(event) for event in events[: after + 2]]
    assert len(oversized) == 3_000_000
    ordinary, huge = json.loads(messages[-1]), json.loads(oversized)
    commit = huge["commit"] if path == V1 else huge["payload"]
    assert (commit["operation"], commit["record"]["$type"]) == ("create", "app.bsky.feed.post")
    assert list(huge) == list(ordinary)
    if after:
        assert when(huge) == when(json.loads(messages[after - 1]))


def when(message: dict[str, Any]) -> tuple[Any, Any]:
    """Time and number, of either wire."""
    payload = message.get("payload", {})
    return message.get("time_us", payload.get("time")), message.get("cursor", payload.get("seq"))


@on_both_wires
async def test_a_slow_host_trickles(start: Start, events: list[SimulatedEvent], path: str, spell: Spell) -> None:
    simulator = start(faults=Faults(script=(Slow(20_000),)))
    expected = [spell(event) for event in events[:60]]
    began = time.monotonic()
    async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
        assert await receive(connection, 60) == expected
    assert time.monotonic() - began > 0.8 * sum(map(len, expected)) / 20_000


@on_both_wires
@pytest.mark.parametrize(("minutes", "lookback"), [(2, 60), (30, 7)])
async def test_a_time_cursor_starts_early_as_far_as_the_look_back_goes(
    start: Start, network: Network, path: str, spell: Spell, minutes: int, lookback: int
) -> None:
    begin = max(_FROM - minutes * MINUTE_US, NOON_US - lookback * MINUTE_US)
    early = list(network.events(begin, NOON_US))
    by_seq = early[100]
    simulator = start(
        lookback=timedelta(minutes=lookback),
        faults=Faults(script=(ServeEarly(minutes), ServeEarly(minutes), ServeEarly(minutes))),
    )
    async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
        assert await receive(connection, 5) == [spell(event) for event in early[:5]]
    async with subscribed(simulator, f"cursor={by_seq.seq}", path=path) as connection:
        assert await receive(connection, 1) == [spell(by_seq)]
    async with subscribed(simulator, path=path) as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.3)


async def test_faults_of_both_kinds_can_meet(start: Start) -> None:
    simulator = start(faults=Faults(script=(Duplicate(5, 5),), cut_after_events=(8,)))
    async with subscribed(simulator, f"cursor={_FROM}") as connection:
        assert len(await receive(connection, 13)) == 13
        with pytest.raises(ConnectionClosed):
            await connection.recv()
