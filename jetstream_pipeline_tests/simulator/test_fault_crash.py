"""A crash: what was sent last is witnessed once more, elsewhere in the stream, under numbers that were in use."""

import json

import pytest

from jetstream_pipeline.simulator import Faults, Network, SimulatedEvent
from jetstream_pipeline.simulator.faults import Crash
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V1, V2, Start, receive, subscribed
from jetstream_pipeline_tests.simulator.test_endings import until_the_end

_FROM = NOON_US - 4 * MINUTE_US
_UNTIL = NOON_US + 10 * MINUTE_US
_LONG_BEFORE = _FROM - 10 * MINUTE_US


def content(events: list[SimulatedEvent]) -> list[tuple[object, ...]]:
    """What happened, without when and under which number."""
    return [(e.did, e.kind, e.rev, e.operation, e.collection, e.rkey, e.record_json, e.payload_json) for e in events]


@pytest.fixture(scope="module")
def events(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM, NOON_US))


@pytest.mark.parametrize(("after", "lost"), [(100, 30), (1500, 1400), (40, 300), (1, 1)])
async def test_the_same_numbers_name_other_events(
    start: Start, network: Network, events: list[SimulatedEvent], after: int, lost: int
) -> None:
    simulator = start(faults=Faults(script=(Crash(after, lost),)))
    async with subscribed(simulator, f"cursor={_FROM}", max_queue=None) as connection:
        received, closed = await until_the_end(connection)
    assert (closed.rcvd, received) == (None, [event.message for event in events[:after]])
    old, new = list(network.events(_LONG_BEFORE, _UNTIL)), list(simulator.events(_LONG_BEFORE, _UNTIL))
    position = next(i for i, event in enumerate(old) if event.seq == events[after].seq)
    first, end = position - lost, position + lost
    crash_us = max(event.time_us for event in old[first:position])
    assert [event.seq for event in new] == [event.seq for event in old]
    assert new[:first] == old[:first]
    assert new[end:] == old[end:]
    assert sorted(map(repr, content(new))) == sorted(map(repr, content(old)))
    assert content(new[first : first + 1]) != content(old[first : first + 1])
    assert all(event.time_us >= crash_us for event in new[first:end])
    assert all(json.loads(event.message)["cursor"] == event.seq for event in new[first:end])
    assert by_repository(new) == by_repository(old)


def by_repository(events: list[SimulatedEvent]) -> dict[str, list[tuple[object, ...]]]:
    grouped: dict[str, list[tuple[object, ...]]] = {}
    for event, what in zip(events, content(events), strict=True):
        grouped.setdefault(event.did, []).append(what)
    return grouped


@pytest.mark.parametrize("path", [V1, V2])
async def test_what_is_served_afterwards_is_what_is_enumerated(
    start: Start, events: list[SimulatedEvent], path: str
) -> None:
    simulator = start(faults=Faults(script=(Crash(2000, 1500), Crash(1000, 50))))
    for _ in range(2):
        async with subscribed(simulator, f"cursor={_FROM}", max_queue=None) as connection:
            await until_the_end(connection)
    window = list(simulator.events(_FROM, NOON_US))
    assert content(window) != content(events)
    for cursor in (_FROM, window[0].seq, window[700].seq, window[1999].seq):
        async with subscribed(simulator, f"cursor={cursor}", path=path) as connection:
            rest = [event for event in window if cursor > 10**15 or event.seq >= cursor]
            expected = [event.message if path == V1 else event.message_v2 for event in rest]
            assert await receive(connection, len(expected)) == expected
    for start_us in range(_FROM, NOON_US, 7_000_000):
        expected = [event.message for event in simulator.events(start_us, NOON_US)][:3]
        async with subscribed(simulator, f"cursor={start_us}") as connection:
            assert await receive(connection, len(expected)) == expected


async def test_a_crash_ends_everybodys_connection(start: Start) -> None:
    simulator = start(faults=Faults(script=(None, None, Crash(10, 5))))
    async with subscribed(simulator) as one, subscribed(simulator, path=V2) as other:
        async with subscribed(simulator, f"cursor={_FROM}") as third:
            await until_the_end(third)
        for connection in (one, other):
            _, closed = await until_the_end(connection)
            assert closed.rcvd is None
    async with subscribed(simulator, f"cursor={_FROM}") as connection:
        assert await receive(connection, 100)
