"""The second wire: the same events in other envelopes, and its own way of beginning and ending."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator
from jetstream_pipeline.simulator.encoding import Wire
from jetstream_pipeline_tests.reference import reference
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V1, V2, Clock, Start, receive, subscribed

_FROM = NOON_US - 2 * MINUTE_US


@pytest.fixture(scope="module")
def events(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM, NOON_US))


async def test_history_is_what_the_network_enumerates(start: Start, events: list[SimulatedEvent]) -> None:
    async with subscribed(start(), f"cursor={_FROM}", path=V2) as connection:
        assert await receive(connection, len(events)) == [event.message_v2 for event in events]


async def test_the_live_tail_begins_at_the_tip(start: Start, network: Network, clock: Clock) -> None:
    following = next(event for event in network.events(NOON_US, NOON_US + MINUTE_US) if event.time_us > NOON_US)
    async with subscribed(start(), path=V2) as connection:
        await asyncio.sleep(0.2)
        clock.now_us += MINUTE_US
        assert (await receive(connection, 1))[0] == following.message_v2


def test_both_wires_tell_the_same(events: list[SimulatedEvent]) -> None:
    assert {event.kind for event in events} == {"commit", "identity", "account"}
    for event in events:
        v1, v2 = json.loads(event.message), json.loads(event.message_v2)
        payload = v2["payload"]
        assert list(v2) == ["$type", "payload"]
        assert v2["$type"] == "message"
        assert payload.pop("$type") == f"network.bsky.jetstream.subscribeEvents#{event.kind}"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", payload["time"])
        body = {key: value for key, value in payload.items() if key not in ("seq", "did", "time")}
        assert (payload["seq"], payload["did"], microseconds(payload["time"])) == (
            v1["cursor"],
            v1["did"],
            event.time_us,
        )
        assert body == (v1["commit"] if event.kind == "commit" else {event.kind: v1[event.kind]})
        if event.record_json is not None:
            assert f'"record":{event.record_json},"rev"'.encode() in event.message_v2


def microseconds(text: str) -> int:

    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_keys_stand_in_the_order_of_the_real_server(network: Network) -> None:
    recorded = keys_by_shape(reference("server/v2_frames.jsonl").read_bytes().splitlines())
    ours = keys_by_shape([event.message_v2 for event in network.events(NOON_US - 60 * MINUTE_US, NOON_US)])
    assert {"commit create", "commit delete", "identity"} <= set(recorded)
    for shape, keys in recorded.items():
        assert keys == ours[shape], shape


def keys_by_shape(lines: list[bytes]) -> dict[str, set[tuple[str, ...]]]:
    shapes: dict[str, set[tuple[str, ...]]] = {}
    for line in lines:
        payload: dict[str, Any] = json.loads(line)["payload"]
        shape = f"{payload['$type'].rpartition('#')[2]} {payload.get('operation', '')}".strip()
        inner = next((payload[kind] for kind in ("identity", "account") if kind in payload), {})
        keys = (*payload, *inner) if "handle" not in inner else ()
        if keys:
            shapes.setdefault(shape, set()).add(keys)
    return shapes


@pytest.mark.parametrize("by", ["seq", "time_us"])
async def test_a_cursor_is_inclusive(start: Start, events: list[SimulatedEvent], by: str) -> None:
    wanted = next(i for i in range(500, len(events)) if events[i].time_us > max(e.time_us for e in events[:i]))
    async with subscribed(start(), f"cursor={getattr(events[wanted], by)}", path=V2) as connection:
        assert await receive(connection, 20) == [event.message_v2 for event in events[wanted : wanted + 20]]


async def test_a_number_below_the_look_back_is_refused(start: Start, network: Network) -> None:
    simulator = start(lookback=timedelta(seconds=90))
    kept = list(network.events(NOON_US - 90_000_000, NOON_US))
    lost = list(network.events(NOON_US - 120_000_000, NOON_US - 90_000_000))[-1]
    with pytest.raises(InvalidStatus) as refused:
        async with subscribed(simulator, f"cursor={lost.seq}", path=V2):
            pass
    response = refused.value.response
    assert response.status_code == 400
    assert json.loads(bytes(response.body)) == {
        "error": "CursorTooOld",
        "message": f"subscribe: cursor too old: cursor {lost.seq} below lookback floor {kept[0].seq}; "
        "re-backfill from your last seq",
    }
    async with subscribed(simulator, f"cursor={kept[0].seq}", path=V2) as connection:
        assert await receive(connection, 1) == [kept[0].message_v2]


async def test_a_time_below_the_look_back_is_raised_and_announced(start: Start, network: Network) -> None:
    oldest = list(network.events(NOON_US - 90_000_000, NOON_US))[:20]
    async with subscribed(start(lookback=timedelta(seconds=90)), f"cursor={_FROM}", path=V2) as connection:
        info = (await receive(connection, 1))[0]
        assert await receive(connection, 20) == [event.message_v2 for event in oldest]
    assert json.loads(info)["payload"]["message"].endswith(f"starting at seq {oldest[0].seq}")
    recorded = reference("server/v2_info_outdated_cursor.jsonl").read_bytes().splitlines()[0]
    assert info == recorded.replace(b"seq 1", b"seq %d" % oldest[0].seq)


@pytest.mark.parametrize("message", ["{}", b"\0"])
async def test_a_subscriber_that_says_anything_is_closed(start: Start, message: str | bytes) -> None:
    async with subscribed(start(), path=V2) as connection:
        await connection.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["xrpc.v1.json"], "xrpc.v1.json"),
        (["other", "xrpc.v1.json"], "xrpc.v1.json"),
        (["XRPC.V1.JSON"], None),
        ([], None),
    ],
)
async def test_the_subprotocol_is_echoed_where_offered(start: Start, offered: list[str], chosen: str | None) -> None:
    async with subscribed(start(), f"cursor={_FROM}", path=V2, subprotocols=offered or None) as connection:
        assert connection.subprotocol == chosen
        assert await receive(connection, 1)


async def test_permessage_deflate_is_not_negotiated(start: Start) -> None:
    async with subscribed(start(), f"cursor={_FROM}", path=V2, compression="deflate") as connection:
        assert not connection.protocol.extensions
        assert await receive(connection, 1)


async def test_an_old_server_knows_no_such_address(start: Start) -> None:
    simulator = start(v2=False)
    for path in (V2, "/xrpc/network.bsky.jetstream.getZstdDictionary"):
        with pytest.raises(InvalidStatus) as refused:
            async with subscribed(simulator, path=path):
                pass
        response = refused.value.response
        assert (response.status_code, bytes(response.body)) == (404, b"404 page not found\n")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


class _Counting(Network):
    """Remembers which pages were asked for."""

    def __init__(self, network: Network) -> None:
        super().__init__(network.seed, network.rate)
        self.asked: list[int] = []

    def page(self, minute: int) -> list[SimulatedEvent]:
        self.asked.append(minute)
        return super().page(minute)


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize(("compressed", "processes"), [(True, 1), (False, 1), (True, 2)])
async def test_what_is_rendered_ahead_is_not_rendered_again(
    network: Network, clock: Clock, wire: Wire, compressed: bool, processes: int
) -> None:
    counting = _Counting(network)
    simulator = Simulator(counting, clock=clock)
    begin, middle = NOON_US - 3 * MINUTE_US, NOON_US // MINUTE_US - 2
    simulator.render_ahead(begin, NOON_US, wire=wire, compressed=compressed, processes=processes)
    query = f"cursor={begin}"
    if compressed:
        number = zstandard.ZstdCompressionDict(simulator.dictionary_v2).dict_id()
        query += f"&zstdDictionary={number}" if wire is Wire.V2 else "&compress=true"
    async with simulator, subscribed(simulator, query, path=V2 if wire is Wire.V2 else V1) as connection:
        await receive(connection, sum(1 for _ in network.events(begin, NOON_US)))
    assert counting.asked.count(middle) == (1 if processes == 1 else 0)
