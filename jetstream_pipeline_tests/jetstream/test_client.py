"""A stream from hosts that do what none should: it goes on, or says why it cannot."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from http import HTTPStatus

import pytest
from websockets.sync.server import ServerConnection

from jetstream_pipeline.jetstream.client import StreamClient
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline_tests.hostile import abort, identity, sending, serving

_START = 1_783_175_888_000_000


def times(host: Host, number: int, cursor: int | None = _START) -> tuple[list[int], StreamClient]:
    """The times of the first events, in seconds since the start, and the client that read them."""
    client = StreamClient([host], Subscription())

    async def read() -> list[int]:
        found: list[int] = []
        async with asyncio.timeout(60), aclosing(client.batches(cursor)) as batches:
            async for batch in batches:
                found += batch.events["time_us"].to_pylist()
                if len(found) >= number:
                    break
        return found[:number]

    return [(time_us - _START) // 1_000_000 for time_us in asyncio.run(read())], client


def seconds(*numbers: int) -> list[str]:
    return [identity(_START + number * 1_000_000, number) for number in numbers]


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 405, 418, 426, 501, None])
def test_whatever_an_old_host_answers_on_the_second_wire_it_is_read_by_the_first(status: int | None) -> None:
    elsewhere = None if status is None else HTTPStatus(status)
    with serving(sending(seconds(1, 2, 3)), elsewhere=elsewhere) as host:
        found, client = times(host, 3)
    assert found == [1, 2, 3]
    assert client.connections == 1
    assert not client.endings


def test_a_host_that_is_busy_on_the_second_wire_is_not_taken_for_an_old_one() -> None:
    with serving(sending([]), elsewhere=HTTPStatus.SERVICE_UNAVAILABLE) as host:
        client = StreamClient([host], Subscription())

        async def read() -> None:
            async with asyncio.timeout(1), aclosing(client.batches(_START)) as batches:
                async for _ in batches:
                    pass

        with pytest.raises(TimeoutError):
            asyncio.run(read())
    assert client.connections == 0
    assert all("503" in ending for ending in client.endings)


def test_one_event_far_ahead_does_not_move_where_the_stream_goes_on() -> None:
    asked: list[int] = []

    def script(connection: ServerConnection, number: int, cursor: int) -> None:
        asked.append(cursor)
        for message in seconds(10, 11, 12, 2000, 13) if number == 0 else seconds(10, 11, 12, 13, 14):
            connection.send(message)
        if number == 0:
            abort(connection)

    with serving(script) as host:
        found, _ = times(host, 6)
    assert found == [10, 11, 12, 2000, 13, 14]
    assert asked[1] == _START + 7_000_000


def numbered(seq: int, time_sec: int, did: str = "did:plc:a") -> str:
    text = identity(_START + time_sec * 1_000_000, 1_000 + time_sec, did)
    return text.replace('"kind"', f'"cursor": {seq}, "kind"')


def resuming(second: Callable[[ServerConnection, int], None]) -> tuple[list[int], list[int], StreamClient]:
    """What comes of a host that sends three numbered events, ends without a farewell, and then does as told."""
    asked: list[int] = []

    def script(connection: ServerConnection, number: int, cursor: int) -> None:
        asked.append(cursor)
        if number:
            second(connection, cursor)
            return
        for seq in (1, 2, 3):
            connection.send(numbered(seq, seq))
        abort(connection)

    with serving(script) as host:
        found, client = times(host, 5)
    return found, asked, client


def test_a_host_with_numbers_is_asked_by_number_and_repeats_are_left_out() -> None:
    def go_on(connection: ServerConnection, cursor: int) -> None:
        for seq in range(cursor, 6):
            connection.send(numbered(seq, seq))

    found, asked, client = resuming(go_on)
    assert found == [1, 2, 3, 4, 5]
    assert asked == [_START, 1]
    assert client.repeats == 3


def test_a_host_whose_numbers_name_other_events_is_asked_by_time() -> None:
    def renumbered(connection: ServerConnection, cursor: int) -> None:
        if cursor < 10**15:
            connection.send(numbered(1, 50, "did:plc:somebody-else"))
            return
        for seq in range(1, 6):
            connection.send(numbered(100 + seq, seq))

    found, asked, _ = resuming(renumbered)
    assert found == [1, 2, 3, 4, 5]
    assert asked == [_START, 1, _START]


def test_a_host_that_accepts_and_never_brings_anything_is_given_up() -> None:
    began = time.monotonic()
    with serving(lambda connection, number, cursor: abort(connection)) as host, pytest.raises(JetstreamError) as told:
        times(host, 1)
    assert "brought nothing new" in str(told.value)
    assert time.monotonic() - began < 60
