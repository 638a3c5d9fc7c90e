"""What a subscriber receives: history from a cursor, then the live tail."""

import asyncio
import json
import time
from datetime import timedelta

import pytest
from websockets.asyncio.client import connect

from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, Clock, Start, receive, subscribed


def window(network: Network, start_us: int, end_us: int) -> list[SimulatedEvent]:
    return list(network.events(start_us, end_us))


def messages(events: list[SimulatedEvent]) -> list[bytes]:
    return [event.message for event in events]


async def test_history_is_what_the_network_enumerates(start: Start, network: Network) -> None:
    expected = messages(window(network, NOON_US - 5 * MINUTE_US, NOON_US))
    async with subscribed(start(), f"cursor={NOON_US - 5 * MINUTE_US}") as connection:
        assert await receive(connection, len(expected)) == expected


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_permessage_deflate_changes_nothing(start: Start, network: Network, compression: str | None) -> None:
    expected = messages(window(network, NOON_US - MINUTE_US, NOON_US))
    async with subscribed(start(), f"cursor={NOON_US - MINUTE_US}", compression=compression) as connection:
        assert bool(connection.protocol.extensions) == (compression is not None)
        assert await receive(connection, len(expected)) == expected


@pytest.mark.parametrize("by", ["seq", "time_us"])
async def test_a_cursor_is_inclusive(start: Start, network: Network, by: str) -> None:
    events = window(network, NOON_US - 3 * MINUTE_US, NOON_US)
    # An event that ends a stretch of growing time, so that nothing before it counts as later.
    wanted = next(i for i in range(500, len(events)) if events[i].time_us > max(e.time_us for e in events[:i]))
    async with subscribed(start(), f"cursor={getattr(events[wanted], by)}") as connection:
        assert await receive(connection, 50) == messages(events[wanted : wanted + 50])


async def test_a_sequence_number_in_a_gap_starts_at_the_next_event(start: Start, network: Network) -> None:
    events = window(network, NOON_US - MINUTE_US, NOON_US)
    after_gap = next(i for i in range(1, len(events)) if events[i].seq - events[i - 1].seq > 1)
    async with subscribed(start(), f"cursor={events[after_gap].seq - 1}") as connection:
        assert await receive(connection, 1) == messages(events[after_gap : after_gap + 1])


@pytest.mark.parametrize("cursor", ["", f"cursor={NOON_US + 1}", f"cursor={NOON_US * 9}", f"cursor={NOON_US // 1000}"])
async def test_no_cursor_or_a_future_one_goes_live(start: Start, network: Network, clock: Clock, cursor: str) -> None:
    simulator = start()
    async with subscribed(simulator, cursor) as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.3)
        clock.now_us += 2_000_000
        expected = messages(window(network, NOON_US + 1, NOON_US + 2_000_000))
        assert await receive(connection, len(expected)) == expected


async def test_the_live_tail_follows_history_without_a_seam(start: Start, network: Network, clock: Clock) -> None:
    expected = messages(window(network, NOON_US - MINUTE_US, NOON_US + 2 * MINUTE_US))
    async with subscribed(start(), f"cursor={NOON_US - MINUTE_US}") as connection:
        received = await receive(connection, 100)
        while len(received) < len(expected):
            clock.now_us += 7_000_000
            for _ in range(100):
                try:
                    received.append(await asyncio.wait_for(connection.recv(decode=False), 0.1))
                except TimeoutError:
                    break
        assert received[: len(expected)] == expected


@pytest.mark.parametrize("cursor", [NOON_US - 30 * 3_600_000_000, 10**15, 1_783_166_400, 0])
async def test_what_is_older_than_the_look_back_starts_at_the_oldest_event(
    start: Start, network: Network, cursor: int
) -> None:
    oldest = messages(window(network, NOON_US - 90 * 1_000_000, NOON_US))[:20]
    async with subscribed(start(lookback=timedelta(seconds=90)), f"cursor={cursor}") as connection:
        assert await receive(connection, 20) == oldest


async def test_a_number_on_the_page_of_the_look_back_or_of_the_tip_keeps_between_them(
    start: Start, network: Network, clock: Clock
) -> None:
    clock.now_us = NOON_US + 20_000_000
    simulator = start(lookback=timedelta(seconds=90))
    kept = window(network, NOON_US - 70_000_000, NOON_US + 20_000_000)
    older = window(network, NOON_US - MINUTE_US * 2, NOON_US - 80_000_000)[-1]
    async with subscribed(simulator, f"cursor={older.seq}") as connection:
        assert await receive(connection, 20) == messages(kept)[:20]
    coming = [event for event in network.page(NOON_US // MINUTE_US) if event.time_us > clock.now_us]
    async with subscribed(simulator, f"cursor={coming[300].seq}") as connection:
        await asyncio.sleep(0.2)
        clock.now_us += 20_000_000
        assert await receive(connection, 20) == messages(coming)[:20]


async def test_an_old_server_sends_no_sequence_numbers(start: Start, network: Network) -> None:
    events = window(network, NOON_US - MINUTE_US, NOON_US)[:30]
    async with subscribed(start(with_cursor=False), f"cursor={NOON_US - MINUTE_US}") as connection:
        assert await receive(connection, 30) == [event.message_without_cursor for event in events]


async def test_a_real_clock_shows_the_present(start: Start) -> None:
    before = time.time()
    async with subscribed(start(clock=time.time)) as connection:
        event = json.loads(await connection.recv())
    assert before - 1 <= event["time_us"] / 1_000_000 <= time.time()


async def test_pages_that_do_not_fit_the_cache_are_made_again(start: Start, network: Network) -> None:
    expected = messages(window(network, NOON_US - 4 * MINUTE_US, NOON_US))
    simulator = start(page_cache_bytes=1)
    for _ in range(2):
        async with subscribed(simulator, f"cursor={NOON_US - 4 * MINUTE_US}") as connection:
            assert await receive(connection, len(expected)) == expected


async def test_subscribers_do_not_hinder_each_other(start: Start, network: Network) -> None:
    """One that does not read leaves the others alone."""
    expected = messages(window(network, NOON_US - 20 * MINUTE_US, NOON_US))
    simulator = start()
    query = f"cursor={NOON_US - 20 * MINUTE_US}"
    async with subscribed(simulator, query, max_queue=1), subscribed(simulator, query) as connection:
        assert await receive(connection, len(expected)) == expected


async def test_rendering_ahead_fills_the_cache(network: Network, clock: Clock) -> None:
    simulator = Simulator(network, clock=clock)
    simulator.render_ahead(NOON_US - 2 * MINUTE_US, NOON_US)
    expected = messages(window(network, NOON_US - 2 * MINUTE_US, NOON_US))
    async with (
        simulator,
        connect(f"{simulator.address}/subscribe?cursor={NOON_US - 2 * MINUTE_US}", compression=None) as connection,
    ):
        assert await receive(connection, len(expected)) == expected
