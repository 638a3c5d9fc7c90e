"""A connection, whatever carries it: whole messages, bounded, until it ends, and then why it did."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from jetstream_pipeline.jetstream import connection as module
from jetstream_pipeline.jetstream.connection import MAX_MESSAGE_BYTES, Connection
from jetstream_pipeline.jetstream.opening import connected
from jetstream_pipeline.jetstream.request import Request
from jetstream_pipeline.jetstream.transport import Transport
from jetstream_pipeline_tests.jetstream.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    Script,
    answering,
    frame,
    frame_header,
    saying,
    sending,
)

MIB = 1024 * 1024


@asynccontextmanager
async def reading(transport: Transport, script: Script) -> AsyncIterator[Connection]:
    async with (
        answering(script) as host,
        connected(host, Request(f"{host.address}/subscribe"), transport) as connection,
    ):
        yield connection


async def received(connection: Connection, number: int | None = None) -> list[bytes]:
    """So many messages; None: all until the end."""
    messages: list[bytes] = []
    while number is None or len(messages) < number:
        batch = await connection.receive(1)
        if not batch and connection.ended is not None:
            break
        messages += batch
    return messages


async def farewell(transport: Transport, *parts: bytes) -> tuple[str | None, bytes, list[bytes]]:
    """Why a connection ends on which this is sent, the close frame that the host is left with, and what came."""
    closes: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.send(*parts)
        closes.put_nowait(await peer.closing())

    async with reading(transport, saying(script)) as connection:
        messages = await received(connection)
        return connection.ended, await closes.get(), messages


async def test_messages_come_whole_and_in_order(transport: Transport) -> None:
    messages = [bytes([number % 256]) * size for number, size in enumerate((1, 0, 125, 126, 65_535, 65_536, 3 * MIB))]
    parts = [frame(TEXT if len(message) % 2 else BINARY, message) for message in messages]
    async with reading(transport, sending(*parts)) as connection:
        assert await received(connection, len(messages)) == messages
        assert connection.bytes_received == sum(map(len, messages))
        assert connection.ended is None


async def test_a_frame_that_comes_in_pieces_is_one_message(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        for byte in frame(TEXT, b"x" * 200) + frame(TEXT, b"y"):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await peer.left()

    async with reading(transport, saying(script)) as connection:
        assert await received(connection, 2) == [b"x" * 200, b"y"]


async def test_fragments_are_one_message(transport: Transport) -> None:
    parts = [
        frame(TEXT, b"before"),
        frame(TEXT, b"a", fin=False),
        frame(CONTINUATION, b"", fin=False),
        frame(PING, b"between"),
        frame(CONTINUATION, b"b" * 70_000, fin=False),
        frame(CONTINUATION, b"c"),
        frame(BINARY, b"", fin=False),
        frame(CONTINUATION, b"d"),
        frame(TEXT, b"after"),
    ]
    async with reading(transport, sending(*parts)) as connection:
        expected = [b"before", b"a" + b"b" * 70_000 + b"c", b"d", b"after"]
        assert await received(connection, 4) == expected
        assert connection.bytes_received == sum(map(len, expected))


async def test_a_ping_is_answered(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(PING, b"there?"))
        assert await peer.read_frame() == (PONG, b"there?")
        await peer.send(frame(TEXT, b"good"))
        await peer.left()

    async with reading(transport, saying(script)) as connection:
        assert await received(connection, 1) == [b"good"]


async def test_what_is_more_than_a_batch_comes_in_several(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 10)
    messages = [str(number).encode() for number in range(35)]

    async def script(peer: Peer) -> None:
        await peer.send(*(frame(TEXT, message) for message in messages))
        opcode, _ = await peer.read_frame()
        assert opcode == TEXT
        await peer.send(frame(TEXT, b"last"))
        await peer.left()

    async with reading(transport, saying(script)) as connection:
        while connection._intake.size < sum(map(len, messages)):
            await asyncio.sleep(0.01)
        batches = [await connection.receive(1)]
        await connection.send("go on")
        while sum(map(len, batches)) < 36:
            batches.append(await connection.receive(1))
        assert all(len(batch) <= 10 for batch in batches)
        assert [message for batch in batches for message in batch] == [*messages, b"last"]
        assert connection.bytes_received == sum(map(len, messages)) + 4
        assert connection._intake.size == 0


async def test_silence_is_an_empty_batch(transport: Transport) -> None:
    async with reading(transport, sending()) as connection:
        assert not await connection.receive(0.01)
        assert connection.ended is None


async def test_who_waits_is_woken_by_the_first_message(transport: Transport) -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await go.wait()
        await peer.send(frame(TEXT, b"now"))
        await peer.left()

    async with reading(transport, saying(script)) as connection:
        waiting = asyncio.create_task(connection.receive(60))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        go.set()
        assert list(await waiting) == [b"now"]


async def test_a_host_that_is_faster_than_its_reader_waits(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not taken for dead meanwhile, although nothing is read from it."""
    monkeypatch.setattr(module, "_BUFFER_BYTES", MIB)
    total, size, sent = 1_024, 65_536, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        for number in range(total):
            await peer.send(frame(BINARY, number.to_bytes(4, "big") + bytes(size - 4)))
            sent += 1
        await peer.send(frame(CLOSE, b"\x03\xe8"))
        await peer.closing()

    async with reading(transport, saying(script)) as connection:
        before = -1
        while before < sent or connection._intake.size < MIB:
            before = sent
            await asyncio.sleep(0.5)
        assert 0 < sent < total / 2
        assert connection._intake.size < 8 * MIB
        monkeypatch.setattr(module, "_SILENCE_SEC", 0.05)
        monkeypatch.setattr(module, "_ANSWER_SEC", 0.05)
        watching = asyncio.create_task(connection._watch())
        await asyncio.sleep(0.5)
        watching.cancel()
        assert connection.ended is None
        numbers = [int.from_bytes(message[:4], "big") for message in await received(connection)]
        assert numbers == list(range(total))


async def test_a_silent_host_that_answers_is_alive(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_SEC", 0.01)
    monkeypatch.setattr(module, "_ANSWER_SEC", 30)

    async def script(peer: Peer) -> None:
        for _ in range(3):
            opcode, payload = await peer.read_frame()
            assert opcode == PING
            await peer.send(frame(PONG, payload))
        await peer.send(frame(TEXT, b"still here"))
        await peer.left()

    async with reading(transport, saying(script)) as connection:
        assert await received(connection, 1) == [b"still here"]


async def test_a_silent_host_that_does_not_answer_is_dead(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE_SEC", 0.25)
    monkeypatch.setattr(module, "_ANSWER_SEC", 0.25)
    async with reading(transport, sending(frame(TEXT, b"one"))) as connection:
        assert await received(connection) == [b"one"]
        assert connection.ended == "no sign of life for 0.5 s"


async def test_a_reset_ends_it(transport: Transport) -> None:
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"one"))
        await seen.wait()
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()

    async with reading(transport, saying(script)) as connection:
        assert await received(connection, 1) == [b"one"]
        seen.set()
        assert await received(connection) == []
        assert connection.ended == "no close frame received or sent"


async def test_the_end_of_the_stream_ends_it_after_what_has_come(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"one"), frame(TEXT, b"two"), frame(TEXT, b"half a frame")[:-3])

    async with reading(transport, saying(script)) as connection:
        assert await received(connection) == [b"one", b"two"]
        assert connection.ended == "no close frame received or sent"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"\x03\xe8", "1000 (OK)"),
        (b"\x03\xe9bye", "1001 (going away) bye"),
        (b"\x03\xf0no data frames", "1008 (policy violation) no data frames"),
        (b"\x0f\xa0", "4000 (private use)"),
        (b"", "1005 (no status received [internal])"),
    ],
)
async def test_why_a_host_closes_is_told(transport: Transport, payload: bytes, told: str) -> None:
    ended, answer, messages = await farewell(transport, frame(TEXT, b"last"), frame(CLOSE, payload), frame(TEXT, b"?"))
    assert ended == f"received {told}; then sent {told}"
    assert answer == payload
    assert messages == [b"last"]


@pytest.mark.parametrize(
    "broken",
    [
        frame(TEXT, b"masked", masked=True),
        frame(3, b"an unknown opcode"),
        frame(TEXT, b"reserved bits", reserved=4),
        frame(TEXT, b"reserved bits", reserved=2),
        frame(CONTINUATION, b"of nothing"),
        frame(TEXT, b"begun", fin=False) + frame(TEXT, b"another"),
        frame(TEXT, b"begun", fin=False) + frame(BINARY, b"another", fin=False),
        frame(PING, b"in fragments", fin=False),
        frame(PING, bytes(126)),
        frame(PONG, b"reserved bits", reserved=4),
        frame(CLOSE, b"\x03"),
        frame(CLOSE, b"\x00\x00"),
        frame(CLOSE, b"\x03\xee"),
        frame(CLOSE, b"\xff\xff"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,
    ],
)
async def test_what_is_against_the_protocol_ends_it(transport: Transport, broken: bytes) -> None:
    ended, close, messages = await farewell(transport, frame(TEXT, b"good"), broken)
    assert str(ended).startswith("sent 1002 (protocol error) ")
    assert str(ended).endswith("; no close frame received")
    assert int.from_bytes(close[:2], "big") == 1002
    assert messages == [b"good"]


async def test_nothing_is_taken_after_what_is_against_the_protocol(transport: Transport) -> None:
    parts = [frame(CONTINUATION, b"of nothing"), frame(TEXT, b"?"), frame(CLOSE, b"\x03\xe8")]
    ended, _, messages = await farewell(transport, *parts)
    assert str(ended).startswith("sent 1002")
    assert messages == []


async def test_a_message_of_the_largest_size_is_taken(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(BINARY, bytes(MAX_MESSAGE_BYTES)), frame(TEXT, b"next"))
        await peer.left()

    async with reading(transport, saying(script)) as connection:
        assert list(map(len, await received(connection, 2))) == [MAX_MESSAGE_BYTES, 4]
        assert not connection.oversized


@pytest.mark.parametrize(
    "parts",
    [
        (frame_header(BINARY, MAX_MESSAGE_BYTES + 1), bytes(1_000)),
        (frame_header(BINARY, 1 << 40), bytes(1_000)),
        (frame(BINARY, bytes(MIB), fin=False), *[frame(CONTINUATION, bytes(MIB), fin=False)] * 31, frame(0, b"1")),
    ],
)
async def test_a_larger_message_ends_it_and_is_told(transport: Transport, parts: tuple[bytes, ...]) -> None:
    closes: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"small"), *parts)
        closes.put_nowait(await peer.closing())

    async with reading(transport, saying(script)) as connection:
        assert await received(connection) == [b"small"]
        assert connection.oversized
        assert str(connection.ended).startswith("sent 1009 (message too big) ")
        assert (await closes.get())[:2] == b"\x03\xf1"


@pytest.mark.parametrize("code", [b"\x03\xf1", b"\x03\xe8"])
async def test_only_what_is_too_large_for_us_is_told_as_such(transport: Transport, code: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(frame(CLOSE, code))
        await peer.closing()

    async with reading(transport, saying(script)) as connection:
        assert await received(connection) == []
        assert str(connection.ended).startswith("received")
        assert not connection.oversized


async def test_who_leaves_in_mid_stream_leaves_at_once(transport: Transport) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            while True:
                await peer.send(frame(TEXT, bytes(1_000)) * 100)
        finally:
            left.set()

    async with answering(saying(script)) as host:
        async with connected(host, Request(f"{host.address}/subscribe"), transport) as connection:
            await received(connection, 1_000)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 30
        await asyncio.wait_for(left.wait(), 20)


async def test_a_mistake_of_ours_is_raised_to_whoever_receives(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a mistake")

    if transport is Transport.FRAMES:
        monkeypatch.setattr(ClientConnection, "process_event", mistaken)
    else:
        monkeypatch.setattr(ClientConnection, "recv", mistaken)
    async with reading(transport, sending(frame(TEXT, b"begun", fin=False))) as connection:
        with pytest.raises(RuntimeError, match="a mistake"):
            await received(connection)
        assert connection.ended == "RuntimeError('a mistake')"


async def test_nothing_is_logged_of_what_a_connection_tells(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    await farewell(transport, frame(3, b"an unknown opcode"))
    assert not [record for record in caplog.records if record.levelname not in ("DEBUG", "INFO")]
