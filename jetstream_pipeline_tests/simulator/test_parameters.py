"""Every parameter of a subscription, and every way of getting it wrong."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jetstream_pipeline.simulator import Network, SimulatedEvent
from jetstream_pipeline_tests.simulator.conftest import (
    MINUTE_US,
    NOON_US,
    Start,
    options_update,
    receive,
    subscribed,
)

_FROM = NOON_US - 2 * MINUTE_US
_LIKE, _POST = "app.bsky.feed.like", "app.bsky.feed.post"


@pytest.fixture(scope="module")
def events(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM, NOON_US))


def some_dids(events: list[SimulatedEvent]) -> list[str]:
    return sorted({event.did for event in events})[:40]


def some_accounts(events: list[SimulatedEvent]) -> list[str]:
    return [event.did for event in events if event.kind != "commit"][:3] + some_dids(events)


Wanted = Callable[[SimulatedEvent], bool]
_FILTERS: list[tuple[list[tuple[str, str]], Wanted]] = [
    ([("wantedCollections", _LIKE)], lambda e: e.collection in (None, _LIKE)),
    (
        [("wantedCollections", "app.bsky.graph.*"), ("wantedCollections", _POST)],
        lambda e: e.collection is None or e.collection == _POST or e.collection.startswith("app.bsky.graph."),
    ),
    ([("wantedCollections", "com.example.none")], lambda e: e.collection is None),
    ([("maxMessageSizeBytes", "450")], lambda e: len(e.message) <= 450),
    *(([("maxMessageSizeBytes", size)], lambda e: True) for size in ("0", "-1", "", "many")),
    ([("requireHello", "yes")], lambda e: True),
]


@pytest.mark.parametrize(("parameters", "wanted"), _FILTERS)
async def test_filters(
    start: Start, events: list[SimulatedEvent], parameters: list[tuple[str, str]], wanted: Wanted
) -> None:
    expected = [event.message for event in events if wanted(event)]
    assert expected
    async with subscribed(start(), urlencode([("cursor", str(_FROM)), *parameters])) as connection:
        assert await receive(connection, len(expected)) == expected


async def test_wanted_dids_hide_others_even_their_identity_events(start: Start, events: list[SimulatedEvent]) -> None:
    wanted = some_accounts(events)
    expected = [event.message for event in events if event.did in wanted]
    query = urlencode([("cursor", str(_FROM)), *(("wantedDids", did) for did in wanted)])
    async with subscribed(start(), query) as connection:
        assert await receive(connection, len(expected)) == expected
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.2)


_REFUSALS = [
    ("cursor=abc", 'subscribe: invalid cursor: "abc"\n'),
    ("cursor=1.5", 'subscribe: invalid cursor: "1.5"\n'),
    ("cursor=-5", "subscribe: invalid cursor: negative value -5\n"),
    ("cursor=99999999999999999999", 'subscribe: invalid cursor: "99999999999999999999"\n'),
    ("wantedCollections=not%20an%20nsid", "subscribe: invalid options: invalid collection: not an nsid\n"),
    ("wantedCollections=app.bsky.fo*", "subscribe: invalid options: invalid collection: app.bsky.fo*\n"),
    ("wantedCollections=", "subscribe: invalid options: invalid collection: \n"),
    ("wantedDids=xyz", "subscribe: invalid options: invalid DID: xyz\n"),
    (
        "&".join(f"wantedCollections=com.example.c{number}" for number in range(101)),
        "subscribe: invalid options: too many wanted collections: > 100\n",
    ),
    ("cursor=%zz", 'subscribe: invalid options: invalid URL escape "%zz"\n'),
]


@pytest.mark.parametrize(("query", "text"), _REFUSALS)
async def test_refusals_come_before_the_upgrade(start: Start, query: str, text: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with subscribed(start(), query):
            pass
    response = refused.value.response
    assert response.status_code == 400
    assert bytes(response.body).decode() == text
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_hundred_collections_are_accepted(start: Start) -> None:
    query = "&".join(f"wantedCollections=com.example.c{number % 100}" for number in range(150))
    async with subscribed(start(), query):
        pass


async def test_other_paths(start: Start) -> None:
    simulator = start()
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{simulator.address}/elsewhere"):
            pass
    assert refused.value.response.status_code == 404
    origin = simulator.address.replace("ws://", "http://")

    def status(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(origin + path) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    code, text = await asyncio.to_thread(status, "/")
    assert code == 200
    assert "/subscribe" in text
    assert (await asyncio.to_thread(status, "/subscribe"))[0] == 426
    assert (await asyncio.to_thread(status, "/nowhere"))[0] == 404


async def test_require_hello_sends_nothing_before_the_first_update(start: Start, events: list[SimulatedEvent]) -> None:
    dids = [f"did:web:host-{number}.example.com" for number in range(9_000)]
    wanted = {*some_dids(events), *dids}
    expected = [event.message for event in events if event.did in wanted]
    async with subscribed(start(), f"cursor={_FROM}&requireHello=true") as connection:
        await connection.send('{"type":"something new","payload":{}}')
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.2)
        await connection.send(options_update(wantedDids=sorted(wanted)))
        assert await receive(connection, len(expected)) == expected


async def test_an_update_replaces_the_filter_from_the_present_position(start: Start, network: Network) -> None:
    simulator = start()
    begin = NOON_US - 60 * MINUTE_US
    async with subscribed(simulator, f"cursor={begin}&wantedCollections=com.example.none") as connection:
        await asyncio.sleep(0.1)
        await connection.send(options_update())
        while (first := json.loads(await connection.recv()))["kind"] != "commit":
            pass
        assert first["time_us"] > begin
        following = list(network.events(first["time_us"], first["time_us"] + MINUTE_US))
        at = next(i for i, event in enumerate(following) if event.seq == first["cursor"])
        assert await receive(connection, 500) == [event.message for event in following[at + 1 : at + 501]]


async def test_updates_may_come_in_fragments_and_binary_messages_mean_nothing(
    start: Start, events: list[SimulatedEvent]
) -> None:
    async with subscribed(start(), f"cursor={_FROM}&requireHello=true") as connection:
        await connection.send(b"not for reading")
        await connection.send([b"not ", b"this ", b"either"])
        update = options_update(wantedCollections=["app.bsky.graph.*"])
        await connection.send([update[:7], update[7:20], update[20:]])
        wanted = [e for e in events if e.collection is None or e.collection.startswith("app.bsky.graph.")]
        assert await receive(connection, len(wanted)) == [event.message for event in wanted]


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("no json", 1007, "bad SubscriberSourcedMessage envelope"),
        ('{"type":"options_update"}', 1007, "bad options_update payload"),
        ('{"type":"options_update","payload":{"wantedDids":"x"}}', 1007, "bad options_update payload"),
        (options_update(wantedDids=["xyz"]), 1008, "subscribe: invalid options: invalid DID: xyz"),
        (
            options_update(wantedCollections=["bad"]),
            1008,
            "subscribe: invalid options: invalid collection: bad",
        ),
        (
            options_update(wantedDids=[f"did:web:a{number}" for number in range(10_001)]),
            1008,
            "subscribe: invalid options: too many wanted DIDs: 10001 > 10000",
        ),
        (" " * 10_000_001, 1009, None),
    ],
)
@pytest.mark.parametrize("replaying", [False, True])
async def test_bad_updates_close_the_connection(
    start: Start, message: str, code: int, reason: str | None, replaying: bool
) -> None:
    query = f"cursor={NOON_US - 30 * MINUTE_US}" if replaying else ""
    async with subscribed(start(), query) as connection:
        await connection.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(connection, 1_000_000)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert reason is None or closed.value.rcvd.reason == reason
