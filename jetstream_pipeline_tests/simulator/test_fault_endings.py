"""Faults that end a connection or never let it begin, on both wires."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
import zstandard
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from jetstream_pipeline.simulator import Faults, Network, SimulatedEvent, Simulator
from jetstream_pipeline.simulator.faults import (
    Close,
    Cut,
    CutAfterBytes,
    ErrorFrame,
    Fault,
    HalfFrame,
    Refuse,
    Reset,
    RetireDictionary,
    Silence,
)
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V1, V2, Start, ask, receive, subscribed
from jetstream_pipeline_tests.simulator.test_endings import raw_subscription, read_all, until_the_end

_FROM = NOON_US - 2 * MINUTE_US
_WIRES: list[tuple[str, Callable[[SimulatedEvent], bytes]]] = [
    (V1, lambda event: event.message),
    (V2, lambda event: event.message_v2),
]
on_both_wires = pytest.mark.parametrize(("path", "spell"), _WIRES)


@pytest.fixture(scope="module")
def events(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM, NOON_US))


async def played(simulator: Simulator, path: str = V1, query: str = "") -> tuple[list[bytes], ConnectionClosed]:
    async with subscribed(simulator, f"cursor={_FROM}{query}", path=path, max_queue=None) as connection:
        return await until_the_end(connection)


@on_both_wires
@pytest.mark.parametrize("fault", [Cut(0), Cut(700), Close(700, 1006), Reset(700), HalfFrame(0), HalfFrame(700)])
async def test_an_end_without_a_goodbye(
    start: Start, events: list[SimulatedEvent], path: str, spell: Callable[[SimulatedEvent], bytes], fault: Fault
) -> None:
    simulator = start(faults=Faults(script=(fault,)))
    received, closed = await played(simulator, path)
    assert received == [spell(event) for event in events[: fault.after]]  # type: ignore[union-attr]
    assert closed.rcvd is None


@on_both_wires
@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999])
async def test_an_end_with_a_code(
    start: Start, events: list[SimulatedEvent], path: str, spell: Callable[[SimulatedEvent], bytes], code: int
) -> None:
    received, closed = await played(start(faults=Faults(script=(Close(700, code, "so it is"),))), path)
    assert received == [spell(event) for event in events[:700]]
    assert closed.rcvd is not None
    assert (closed.rcvd.code, closed.rcvd.reason) == (code, "so it is")


async def test_a_close_frame_may_be_empty(start: Start) -> None:
    received, closed = await played(start(faults=Faults(script=(Close(3, 1005),))))
    assert len(received) == 3
    assert closed.rcvd is not None
    assert closed.rcvd.code == 1005


@pytest.mark.parametrize("code", [999, 1004, 1016, 2000, 5000])
def test_codes_that_cannot_be_sent_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        Close(0, code)


async def test_a_reset_is_one_and_a_cut_is_none(start: Start) -> None:
    simulator = start(faults=Faults(script=(Cut(5), Reset(5))))
    assert read_all(await asyncio.to_thread(raw_subscription, simulator, f"cursor={_FROM}"))
    with pytest.raises(ConnectionResetError):
        read_all(await asyncio.to_thread(raw_subscription, simulator, f"cursor={_FROM}"))


async def test_half_a_frame_is_half_a_frame(start: Start) -> None:
    simulator = start(faults=Faults(script=(Cut(5), HalfFrame(5))))
    whole = read_all(await asyncio.to_thread(raw_subscription, simulator, f"cursor={_FROM}"))
    more = read_all(await asyncio.to_thread(raw_subscription, simulator, f"cursor={_FROM}"))
    assert more.startswith(whole)
    opcode, announced = more[len(whole) :][:2]
    assert opcode == 0x81
    assert 0 < len(more) - len(whole) - 2 < announced


@pytest.mark.parametrize("limit", [1, 1000, 54_321])
async def test_a_cut_after_so_many_bytes(start: Start, limit: int) -> None:
    simulator = start(faults=Faults(script=(CutAfterBytes(limit),)))
    assert len(read_all(await asyncio.to_thread(raw_subscription, simulator, f"cursor={_FROM}"))) == limit


@on_both_wires
async def test_a_handshake_may_get_no_answer(
    start: Start, events: list[SimulatedEvent], path: str, spell: Callable[[SimulatedEvent], bytes]
) -> None:
    simulator = start(faults=Faults(script=(Close(0, 1015), None)))
    with pytest.raises((InvalidMessage, ConnectionResetError, EOFError)):
        await played(simulator, path)
    async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
        assert await receive(connection, 1) == [spell(events[0])]


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 502, 503, 599])
async def test_a_handshake_may_be_refused(start: Start, path: str, status: int) -> None:
    simulator = start(faults=Faults(script=(Refuse(status, "not now\n"), Refuse(status))))
    for body in (b"not now\n", b""):
        with pytest.raises(InvalidStatus) as refused:
            await played(simulator, path)
        assert refused.value.response.status_code == status
        assert bytes(refused.value.response.body or b"") == body
    async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
        assert await receive(connection, 1)


async def test_a_refusal_in_json_says_so(start: Start) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await played(start(faults=Faults(script=(Refuse(429, '{"error":"RateLimitExceeded"}'),))), V2)
    assert refused.value.response.headers["Content-Type"] == "application/json"


async def test_the_script_counts_over_both_wires_and_what_it_refuses(start: Start) -> None:
    simulator = start(faults=Faults(script=(Cut(1), Refuse(503), Cut(3), None, Cut(5))))
    assert len((await played(simulator, V2))[0]) == 1
    with pytest.raises(InvalidStatus):
        await played(simulator, V1)
    with pytest.raises(InvalidStatus):
        await played(simulator, V1, "&wantedDids=bad")
    assert len((await played(simulator, V1))[0]) == 3
    async with subscribed(simulator, f"cursor={_FROM}", path=V2) as connection:
        await receive(connection, 100)
    assert len((await played(simulator, V2))[0]) == 5
    async with subscribed(simulator, f"cursor={_FROM}") as connection:
        await receive(connection, 100)


@on_both_wires
@pytest.mark.parametrize("answering", [True, False])
async def test_silence(
    start: Start, events: list[SimulatedEvent], path: str, spell: Callable[[SimulatedEvent], bytes], answering: bool
) -> None:
    simulator = start(ping_interval=0.1, pong_timeout=0.3, faults=Faults(script=(Silence(10, answer_pings=answering),)))
    async with subscribed(simulator, f"cursor={_FROM}", path=path) as connection:
        assert await receive(connection, 10) == [spell(event) for event in events[:10]]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 1.0)
        pong = await connection.ping()
        if answering:
            await asyncio.wait_for(pong, 60)
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pong, 0.5)


async def test_silence_pings_nobody(start: Start) -> None:
    simulator = start(ping_interval=0.05, faults=Faults(script=(Silence(1),)))
    stream = await asyncio.to_thread(raw_subscription, simulator, f"cursor={_FROM}")
    stream.settimeout(60)
    received = bytearray()
    with stream:
        while b'{"did":' not in received:
            received += stream.recv(65_536)
        stream.settimeout(0.5)
        with pytest.raises(TimeoutError):
            read_into(received, stream)
    assert b"\x89\x01" not in received


def read_into(received: bytearray, stream: socket.socket) -> None:
    while data := stream.recv(65_536):
        received += data


@pytest.mark.parametrize("compressed", [True, False])
async def test_an_error_frame_ends_the_second_wire(start: Start, compressed: bool) -> None:
    simulator = start(faults=Faults(script=(ErrorFrame(7, "ConsumerTooSlow", "hurry up"),)))
    shared = zstandard.ZstdCompressionDict(simulator.dictionary_v2)
    received, closed = await played(simulator, V2, f"&zstdDictionary={shared.dict_id()}" if compressed else "")
    if compressed:
        decompressor = zstandard.ZstdDecompressor(dict_data=shared)
        received = [decompressor.decompressobj().decompress(frame) for frame in received]
    assert len(received) == 8
    assert received[-1] == b'{"$type":"error","error":"ConsumerTooSlow","message":"hurry up"}'
    assert closed.rcvd is None


async def test_an_error_closes_the_first_wire(start: Start) -> None:
    received, closed = await played(start(faults=Faults(script=(ErrorFrame(7, "ConsumerTooSlow", "hurry up"),))))
    assert len(received) == 7
    assert closed.rcvd is not None
    assert (closed.rcvd.code, closed.rcvd.reason) == (1008, "hurry up")


async def test_a_dictionary_is_retired_under_its_readers(start: Start, events: list[SimulatedEvent]) -> None:
    simulator = start(faults=Faults(script=(None, None, RetireDictionary(5))))
    old = zstandard.ZstdCompressionDict(simulator.dictionary_v2).dict_id()
    other_reader = subscribed(simulator, f"zstdDictionary={old}", path=V2)
    plain_reader = subscribed(simulator, path=V2)
    async with other_reader as other, plain_reader as plain:
        received, closed = await played(simulator, V2, f"&zstdDictionary={old}")
        assert len(received) == 5
        assert (closed.rcvd and closed.rcvd.code) == 1001
        _, closed = await until_the_end(other)
        assert (closed.rcvd and closed.rcvd.code) == 1001
        await asyncio.wait_for(await plain.ping(), 60)
    with pytest.raises(InvalidStatus) as refused:
        await played(simulator, V2, f"&zstdDictionary={old}")
    assert json.loads(bytes(refused.value.response.body))["error"] == "UnknownZstdDictionary"
    status, _, content = await asyncio.to_thread(ask, simulator, "/xrpc/network.bsky.jetstream.getZstdDictionary")
    shared = zstandard.ZstdCompressionDict(content)
    assert (status, shared.dict_id() != old) == (200, True)
    path = f"/xrpc/network.bsky.jetstream.getZstdDictionary?id={old}"
    assert (await asyncio.to_thread(ask, simulator, path))[0] == 404
    async with subscribed(simulator, f"cursor={_FROM}&zstdDictionary={shared.dict_id()}", path=V2) as connection:
        frame = (await receive(connection, 1))[0]
    assert zstandard.ZstdDecompressor(dict_data=shared).decompressobj().decompress(frame) == events[0].message_v2


async def test_a_server_that_warms_up_refuses_everybody(start: Start) -> None:
    simulator = start(warm_up=timedelta(hours=1), faults=Faults(script=(Cut(1),)))
    for path, body in (
        (V1, b"service not ready: cursor replay warming up\n"),
        (V2, b'{"error":"ServiceUnavailable","message":"service not ready: cursor replay warming up"}'),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await played(simulator, path)
        assert (refused.value.response.status_code, bytes(refused.value.response.body)) == (503, body)
    assert 0 < simulator._warm_at - time.monotonic() <= 3_600
    simulator._warm_at = time.monotonic()
    received, _ = await played(simulator)
    assert len(received) == 1
