"""Hosts of one network that witness the same events at other times, in another order, or not at all."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from jetstream_pipeline.simulator import Faults, Network, SimulatedEvent, Simulator, Witness
from jetstream_pipeline.simulator.faults import Crash
from jetstream_pipeline.simulator.identifiers import precise_timestamp
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V1, V2, Clock, Start, receive, subscribed
from jetstream_pipeline_tests.simulator.test_endings import until_the_end

_FROM = NOON_US - 6 * MINUTE_US
_JITTERY = Witness(offset=timedelta(seconds=3), jitter=timedelta(milliseconds=800), seq_offset=12_345, seed=5)
_IMPORTED = replace(_JITTERY, imported=0.4)
_HOUR_US = 60 * MINUTE_US


def identity(event: SimulatedEvent) -> tuple[Any, ...]:
    return event.did, event.kind, event.rev, event.collection, event.rkey, event.operation, event.payload_json


def times(events: Sequence[SimulatedEvent]) -> dict[tuple[Any, ...], int]:
    return {identity(event): event.time_us for event in events}


def seen(network: Network, start_us: int = _FROM, end_us: int = NOON_US, **options: Any) -> list[SimulatedEvent]:
    return list(Simulator(network, **options).events(start_us, end_us))


@pytest.fixture(scope="module")
def wide(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM - 2 * MINUTE_US, NOON_US + 2 * MINUTE_US))


@pytest.mark.parametrize("witness", [None, Witness()])
def test_a_host_without_peculiarities_sees_what_the_network_enumerates(
    network: Network, witness: Witness | None
) -> None:
    assert seen(network, witness=witness) == list(network.events(_FROM, NOON_US))


def test_an_offset_moves_all_times_and_nothing_else(network: Network) -> None:
    offset = timedelta(seconds=-90)
    moved = seen(network, _FROM - 90_000_000, NOON_US - 90_000_000, witness=Witness(offset=offset))
    assert [(event.time_us + 90_000_000, event.seq, identity(event)) for event in moved] == [
        (event.time_us, event.seq, identity(event)) for event in network.events(_FROM, NOON_US)
    ]


def test_numbers_are_the_hosts_own(network: Network) -> None:
    plain = [event.seq for event in network.events(_FROM, NOON_US)]
    assert [event.seq for event in seen(network, witness=Witness(seq_offset=777))] == [seq + 777 for seq in plain]
    jittery = [event.seq for event in seen(network, witness=_JITTERY)]
    assert jittery == sorted(set(jittery))


def test_jitter_swaps_neighbours_across_repositories_only(network: Network, wide: list[SimulatedEvent]) -> None:
    jittery = seen(network, witness=_JITTERY)
    place = {identity(event): number for number, event in enumerate(wide)}
    places = [place[identity(event)] for event in jittery]
    swaps = sum(later < earlier for earlier, later in pairwise(places))
    assert swaps > len(places) / 10
    by_repository: dict[str, list[int]] = {}
    for event, number in zip(jittery, places, strict=True):
        by_repository.setdefault(event.did, []).append(number)
    assert all(numbers == sorted(numbers) for numbers in by_repository.values())


def test_jitter_stays_within_its_bounds(network: Network, wide: list[SimulatedEvent]) -> None:
    original = times(wide)
    moved = [event.time_us - original[identity(event)] - 3_000_000 for event in seen(network, witness=_JITTERY)]
    assert -900_000 < min(moved) < -700_000
    assert 700_000 < max(moved) < 900_000
    none = seen(network, witness=Witness(offset=timedelta(seconds=3)))
    assert {event.time_us - original[identity(event)] for event in none} == {3_000_000}


@pytest.mark.parametrize("jitter", [0.8, 20])
def test_nothing_is_lost_or_doubled_at_the_minutes(network: Network, wide: list[SimulatedEvent], jitter: float) -> None:
    witness = Witness(jitter=timedelta(seconds=jitter))
    everything = seen(network, _FROM - 4 * MINUTE_US, NOON_US + 4 * MINUTE_US, witness=witness)
    assert len(times(everything)) == len(everything)
    assert set(times(wide)) <= set(times(everything))
    latest = 0
    for event in everything:
        assert event.time_us > latest - 100_000
        latest = max(latest, event.time_us)
    by_repository: dict[str, list[tuple[Any, ...]]] = {}
    for event in everything:
        by_repository.setdefault(event.did, []).append(identity(event))
    of_wide: dict[str, list[tuple[Any, ...]]] = {}
    for event in wide:
        of_wide.setdefault(event.did, []).append(identity(event))
    known = set(times(wide))
    for did, identities in of_wide.items():
        assert [one for one in by_repository[did] if one in known] == identities


def test_a_witness_is_always_the_same_and_another_seed_another(network: Network) -> None:
    assert seen(network, witness=_JITTERY) == seen(Network(network.seed, network.rate), witness=_JITTERY)
    other = Witness(_JITTERY.offset, _JITTERY.jitter, _JITTERY.seq_offset, seed=6)
    assert [identity(e) for e in seen(network, witness=other)] != [identity(e) for e in seen(network, witness=_JITTERY)]


@pytest.mark.parametrize("path", [V1, V2])
async def test_cursors_look_back_and_tip_go_by_the_hosts_own_times(
    start: Start, clock: Clock, network: Network, path: str
) -> None:
    simulator = start(witness=_JITTERY, lookback=timedelta(minutes=4))

    def spelled(events: list[SimulatedEvent]) -> list[bytes]:
        return [event.message if path == V1 else event.message_v2 for event in events]

    kept = list(simulator.events(NOON_US - 4 * MINUTE_US, NOON_US))
    for cursor in (NOON_US - 3 * MINUTE_US, NOON_US - 61_234_567, kept[10].seq, kept[-30].seq):
        expected = [event for event in kept if event.seq >= cursor]
        if cursor >= 10**15:
            expected = list(simulator.events(cursor, NOON_US))
        async with subscribed(simulator, f"cursor={cursor}", path=path) as connection:
            assert await receive(connection, len(expected)) == spelled(expected)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.2)
    async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
        await receive(connection, 1 if path == V2 else 0)
        assert await receive(connection, 5) == spelled(kept[:5])
    async with subscribed(simulator, path=path) as connection:
        await asyncio.sleep(0.2)
        clock.now_us += MINUTE_US
        following = [event for event in simulator.events(NOON_US, NOON_US + MINUTE_US) if event.time_us > NOON_US]
        assert await receive(connection, 100) == spelled(following[:100])


async def test_a_crash_spares_what_the_witness_sees_otherwise(start: Start) -> None:
    simulator = start(witness=_JITTERY, faults=Faults(script=(Crash(500, 200),)))
    before = set(times(list(simulator.events(_FROM, NOON_US + 2 * MINUTE_US))))
    async with subscribed(simulator, f"cursor={_FROM}") as connection:
        await until_the_end(connection)
    after = list(simulator.events(_FROM, NOON_US + 2 * MINUTE_US))
    assert set(times(after)) == before
    async with subscribed(simulator, f"cursor={after[300].seq}") as connection:
        assert await receive(connection, 600) == [event.message for event in after[300:900]]


@pytest.mark.parametrize("jitter", [-1, 21])
def test_jitter_has_limits(jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        Witness(jitter=timedelta(seconds=jitter))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_the_share_of_imported_times_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="imported"):
        Witness(imported=share)


def of_commits(events: Sequence[SimulatedEvent]) -> dict[tuple[str, str], set[int]]:
    """The times that each commit's operations show."""
    shown: dict[tuple[str, str], set[int]] = {}
    for event in events:
        if event.rev is not None:
            shown.setdefault((event.did, event.rev), set()).add(event.time_us)
    return shown


def test_an_import_changes_the_shown_times_of_some_whole_commits_and_nothing_else(network: Network) -> None:
    plain, some = seen(network, witness=_JITTERY), seen(network, witness=_IMPORTED)
    assert [(identity(event), event.seq, event.witnessed_us) for event in some] == [
        (identity(event), event.seq, event.time_us) for event in plain
    ]
    ages = [event.witnessed_us - event.time_us for event in some if event.time_us != event.witnessed_us]
    assert _HOUR_US <= min(ages) < 400 * _HOUR_US
    assert 9_200 * _HOUR_US < max(ages) <= 9_600 * _HOUR_US
    assert all(event.kind == "commit" for event in some if event.time_us != event.witnessed_us)
    commits, imported = of_commits(some), of_commits([event for event in some if event.time_us != event.witnessed_us])
    assert {len(times) for times in commits.values()} == {1}
    assert 0.37 < len(imported) / len(commits) < 0.43


def test_either_wires_messages_show_the_imported_time(network: Network) -> None:
    plain = seen(network, witness=_JITTERY)
    for event, other in zip(seen(network, witness=_IMPORTED), plain, strict=True):
        first, second = json.loads(event.message), json.loads(event.message_v2)["payload"]
        assert (first.pop("time_us"), first.pop("cursor")) == (event.time_us, event.seq)
        assert (second.pop("time"), second.pop("seq")) == (precise_timestamp(event.time_us), event.seq)
        for rest, message in ((first, json.loads(other.message)), (second, json.loads(other.message_v2)["payload"])):
            assert rest == {name: message[name] for name in rest}


def test_imported_times_are_always_the_same_and_another_seed_has_others(network: Network) -> None:
    some = seen(network, witness=_IMPORTED)
    assert seen(Network(network.seed, network.rate), _FROM, witness=_IMPORTED) == some
    later = seen(network, NOON_US - MINUTE_US, witness=_IMPORTED)
    assert some[-len(later) :] == later
    other = seen(network, witness=replace(_IMPORTED, jitter=timedelta(0), seed=6))
    same = times(some).items() & times(other).items()
    assert not [what for what, _ in same if what[1] == "commit"]
    everything = seen(network, witness=Witness(imported=1.0))
    assert all((event.time_us < event.witnessed_us) == (event.kind == "commit") for event in everything)


def test_windows_meet_where_the_witnessed_times_do_also_at_imported_events(network: Network) -> None:
    plain, some = seen(network, witness=_JITTERY), seen(network, witness=_IMPORTED)
    edges = [
        (before, after)
        for number, (before, after) in enumerate(pairwise(some), 1)
        if after.witnessed_us > max(event.witnessed_us for event in some[:number])
    ]
    for first_imported in (True, False):
        for last_imported in (True, False):
            moment = next(
                after.witnessed_us
                for before, after in edges[20:]
                if (before.time_us != before.witnessed_us, after.time_us != after.witnessed_us)
                == (last_imported, first_imported)
            )
            earlier = seen(network, _FROM, moment, witness=_IMPORTED)
            later = seen(network, moment, NOON_US, witness=_IMPORTED)
            assert earlier + later == some
            assert (earlier[-1].time_us != earlier[-1].witnessed_us) is last_imported
            assert (later[0].time_us != later[0].witnessed_us) is first_imported
            assert len(earlier) == sum(event.seq < later[0].seq for event in plain)


@pytest.mark.parametrize("path", [V1, V2])
async def test_cursors_look_back_and_tip_are_blind_to_imported_times(
    start: Start, clock: Clock, network: Network, path: str
) -> None:
    simulator = start(witness=_IMPORTED, lookback=timedelta(minutes=4))

    def spelled(events: list[SimulatedEvent]) -> list[bytes]:
        return [event.message if path == V1 else event.message_v2 for event in events]

    kept = list(simulator.events(NOON_US - 4 * MINUTE_US, NOON_US))
    latest = 0
    firsts = []
    for event in kept:
        if event.witnessed_us > latest and event.time_us != event.witnessed_us:
            firsts.append(event)
        latest = max(latest, event.witnessed_us)
    for first in (firsts[100], firsts[-20]):
        expected = spelled(kept[kept.index(first) :])
        for cursor in (first.witnessed_us, first.seq):
            async with subscribed(simulator, f"cursor={cursor}", path=path) as connection:
                assert await receive(connection, len(expected)) == expected
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(connection.recv(), 0.2)
    shown = firsts[100].time_us
    async with subscribed(simulator, f"cursor={shown}", path=path) as connection:
        await receive(connection, 1 if path == V2 else 0)
        assert await receive(connection, 5) == spelled(kept[:5])
    async with subscribed(simulator, path=path) as connection:
        await asyncio.sleep(0.2)
        clock.now_us += MINUTE_US
        following = [event for event in simulator.events(NOON_US, NOON_US + MINUTE_US) if event.witnessed_us > NOON_US]
        assert await receive(connection, 100) == spelled(following[:100])


async def test_imported_times_survive_a_crash(start: Start) -> None:
    simulator = start(witness=replace(_IMPORTED, imported=1.0), faults=Faults(script=(Crash(500, 200),)))
    before = list(simulator.events(_FROM, NOON_US + 2 * MINUTE_US))
    async with subscribed(simulator, f"cursor={_FROM}") as connection:
        await until_the_end(connection)
    after = list(simulator.events(_FROM, NOON_US + 2 * MINUTE_US))
    crash_us = max(event.witnessed_us for event in before[300:500])
    assert [event.witnessed_us for event in after[300:700]] == [
        max(event.witnessed_us, crash_us) for event in before[300:700]
    ]
    assert list(map(identity, after)) != list(map(identity, before))
    imported = {identity(event): event.time_us for event in before if event.time_us != event.witnessed_us}
    assert {identity(event): event.time_us for event in after if event.time_us != event.witnessed_us} == imported
    async with subscribed(simulator, f"cursor={after[300].seq}") as connection:
        assert await receive(connection, 600) == [event.message for event in after[300:900]]


def test_a_blind_host_misses_a_share_of_the_repositories_entirely(network: Network) -> None:
    everything, some = seen(network), seen(network, blind=0.3)
    missed = {event.did for event in everything} - {event.did for event in some}
    assert some == [event for event in everything if event.did not in missed]
    assert 0.2 < len(missed) / len({event.did for event in everything}) < 0.4
    assert seen(network, blind=0.3) == some
    assert seen(network, blind=0.3, blind_seed=1) != some


async def test_a_host_that_sees_nothing_serves_nothing(start: Start) -> None:
    simulator = start(blind=1.0)
    async with subscribed(simulator, f"cursor={_FROM}", path=V2) as connection, subscribed(simulator) as live:
        for one in (connection, live):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.recv(), 0.5)
            await asyncio.wait_for(await one.ping(), 60)


async def test_a_blind_host_serves_what_it_enumerates(start: Start) -> None:
    simulator = start(blind=0.5, witness=_JITTERY)
    expected = [event.message for event in simulator.events(_FROM, NOON_US)]
    async with subscribed(simulator, f"cursor={_FROM}") as connection:
        assert await receive(connection, len(expected)) == expected


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(network: Network, share: float) -> None:
    with pytest.raises(ValueError, match="blind"):
        Simulator(network, blind=share)
