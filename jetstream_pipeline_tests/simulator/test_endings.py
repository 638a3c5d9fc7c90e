"""How connections end: politely, or in the middle of everything."""

import asyncio
import socket
import time

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from jetstream_pipeline.simulator import Faults, Network, Simulator
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, Clock, Start, subscribed

_FROM = NOON_US - 5 * MINUTE_US


async def until_the_end(connection: ClientConnection) -> tuple[list[bytes], ConnectionClosed]:
    received: list[bytes] = []
    try:
        while True:
            received.append(await connection.recv(decode=False))
    except ConnectionClosed as closed:
        return received, closed


async def test_connections_are_cut_after_so_many_events(start: Start, network: Network) -> None:
    simulator = start(faults=Faults(cut_after_events=(0, 1, 3000)))
    expected = [event.message for event in network.events(_FROM, NOON_US)]
    for number in (0, 1, 3000):
        async with subscribed(simulator, f"cursor={_FROM}") as connection:
            received, closed = await until_the_end(connection)
        assert received == expected[:number]
        assert closed.rcvd is None
    async with subscribed(simulator, f"cursor={_FROM}") as connection:
        assert [await connection.recv(decode=False) for _ in expected] == expected


async def test_a_cut_at_an_event_happens_once(start: Start, network: Network) -> None:
    events = list(network.events(_FROM, NOON_US))
    simulator = start(faults=Faults(cut_at_seqs=frozenset({events[700].seq, events[2500].seq})))
    resumed = 0
    for last in (700, 2500):
        async with subscribed(simulator, f"cursor={events[resumed].seq}") as connection:
            received, closed = await until_the_end(connection)
        assert received == [event.message for event in events[resumed : last + 1]]
        assert closed.rcvd is None
        resumed = last
    async with subscribed(simulator, f"cursor={events[resumed].seq}") as connection:
        for event in events[resumed:]:
            assert await connection.recv(decode=False) == event.message


async def test_an_event_that_is_filtered_out_cuts_nothing(start: Start, network: Network) -> None:
    events = list(network.events(_FROM, NOON_US))
    likes = [event for event in events if event.collection in (None, "app.bsky.feed.like")]
    post = next(event for event in events if event.collection == "app.bsky.feed.post")
    simulator = start(faults=Faults(cut_at_seqs=frozenset({post.seq})))
    async with subscribed(simulator, f"cursor={_FROM}&wantedCollections=app.bsky.feed.like") as connection:
        for event in likes:
            assert await connection.recv(decode=False) == event.message


async def test_who_answers_pings_stays(start: Start) -> None:
    async with subscribed(start(ping_interval=0.1, pong_timeout=0.3)) as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 1.0)


async def test_who_does_not_answer_pings_is_cut_without_a_close_frame(start: Start) -> None:
    simulator = start(ping_interval=0.1, pong_timeout=0.2)
    stream = await asyncio.to_thread(raw_subscription, simulator, "")
    before = time.monotonic()
    received = await asyncio.to_thread(read_all, stream)
    assert received == b"\x89\x011"
    assert time.monotonic() - before < 20


async def test_who_does_not_read_is_cut_and_still_gets_what_was_buffered(start: Start, network: Network) -> None:
    simulator = start(pong_timeout=0.2)
    stream = await asyncio.to_thread(raw_subscription, simulator, f"cursor={NOON_US - 60 * MINUTE_US}")
    async with asyncio.timeout(60):
        while simulator._connections:
            await asyncio.sleep(0.05)
    received = await asyncio.to_thread(read_all, stream)
    first = next(network.events(NOON_US - 60 * MINUTE_US, NOON_US)).message
    assert first in received[: len(first) + 10]
    assert len(received) > 100_000


async def test_a_client_that_leaves_is_answered(start: Start) -> None:
    async with subscribed(start(), f"cursor={_FROM}", max_queue=None) as connection:
        await connection.recv()
        await connection.close()
        assert connection.close_code == 1000


@pytest.mark.parametrize("query", ["", f"cursor={_FROM}"])
async def test_a_shutdown_is_announced(network: Network, clock: Clock, query: str) -> None:
    simulator = Simulator(network, clock=clock)
    async with simulator:
        context = subscribed(simulator, query)
        connection = await context.__aenter__()
        ending = asyncio.create_task(until_the_end(connection))
        await asyncio.sleep(0.2)
    _, closed = await ending
    assert closed.rcvd is not None
    assert closed.rcvd.code == 1001


def raw_subscription(simulator: Simulator, query: str) -> socket.socket:
    """A subscriber that does nothing by itself."""
    host, port = simulator.address.removeprefix("ws://").split(":")
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    stream.settimeout(60)
    stream.connect((host, int(port)))
    stream.sendall(
        f"GET /subscribe?{query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.recv(1)
    return stream


def read_all(stream: socket.socket) -> bytes:
    received = b""
    with stream:
        while data := stream.recv(65_536):
            received += data
    return received
