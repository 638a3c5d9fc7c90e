"""Every parameter of the second wire, and every way of getting it wrong."""

import asyncio
import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus

from jetstream_pipeline.simulator import Network, SimulatedEvent
from jetstream_pipeline_tests.reference import reference
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V2, Start, receive, subscribed

_FROM = NOON_US - 2 * MINUTE_US
_LIKE, _POST = "app.bsky.feed.like", "app.bsky.feed.post"


@pytest.fixture(scope="module")
def events(network: Network) -> list[SimulatedEvent]:
    return list(network.events(_FROM, NOON_US))


_FILTERS: list[tuple[list[tuple[str, str]], Callable[[SimulatedEvent], bool]]] = [
    ([("kinds", "commit")], lambda e: e.kind == "commit"),
    ([("kinds", "identity"), ("kinds", "account")], lambda e: e.kind != "commit"),
    ([("kinds", "account"), ("kinds", "sync")], lambda e: e.kind == "account"),
    ([("collections", _LIKE)], lambda e: e.collection in (None, _LIKE)),
    ([("collections", _LIKE), ("kinds", "commit")], lambda e: e.collection == _LIKE),
    (
        [("collections", "app.bsky.graph.*"), ("collections", _POST), ("kinds", "commit"), ("kinds", "identity")],
        lambda e: (
            e.kind == "identity"
            or (e.kind == "commit" and (e.collection == _POST or (e.collection or "").startswith("app.bsky.graph.")))
        ),
    ),
    ([("maxMessageSizeBytes", "550")], lambda e: len(e.message_v2) <= 550),
    ([("maxMessageSizeBytes", "0")], lambda e: True),
    ([("unheardOf", "1")], lambda e: True),
]


@pytest.mark.parametrize(("parameters", "wanted"), _FILTERS)
async def test_filters(
    start: Start,
    events: list[SimulatedEvent],
    parameters: list[tuple[str, str]],
    wanted: Callable[[SimulatedEvent], bool],
) -> None:
    expected = [event.message_v2 for event in events if wanted(event)]
    assert expected
    async with subscribed(start(), urlencode([("cursor", str(_FROM)), *parameters]), path=V2) as connection:
        assert await receive(connection, len(expected)) == expected


async def test_dids_hide_others_even_their_identity_events(start: Start, events: list[SimulatedEvent]) -> None:
    wanted = [event.did for event in events if event.kind != "commit"][:3] + [event.did for event in events][:20]
    expected = [event.message_v2 for event in events if event.did in wanted]
    query = urlencode([("cursor", str(_FROM)), *(("dids", did) for did in dict.fromkeys(wanted))])
    async with subscribed(start(), query, path=V2) as connection:
        assert await receive(connection, len(expected)) == expected
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.2)


_REFUSALS = [
    ("cursor=abc", 'subscribe: invalid cursor: "abc"'),
    ("cursor=-5", "subscribe: invalid cursor: negative value -5"),
    ("cursor=%zz", 'subscribe: invalid options: invalid URL escape "%zz"'),
    ("kinds=post", 'subscribe: invalid options: unknown kind "post" (valid: commit, identity, account, sync)'),
    ("&".join(["kinds=commit"] * 5), "subscribe: invalid options: too many kinds values: 5 > 4"),
    ("dids=xyz", "subscribe: invalid options: invalid DID: xyz"),
    ("collections=posts", "subscribe: invalid options: invalid collection: posts"),
    ("collections=not_an_nsid.*", "subscribe: invalid options: invalid collection wildcard: not_an_nsid.*"),
    (
        "&".join(["collections=app.bsky.feed.like"] * 101),
        "subscribe: invalid options: too many collections values: 101 > 100",
    ),
    (
        "kinds=identity&collections=app.bsky.feed.like",
        "subscribe: invalid options: collections filter can never apply: kinds excludes commit",
    ),
    ("maxMessageSizeBytes=", "subscribe: invalid options: maxMessageSizeBytes must be one unsigned 32-bit integer"),
    ("maxMessageSizeBytes=-1", 'subscribe: invalid options: invalid maxMessageSizeBytes "-1"'),
    ("maxMessageSizeBytes=4294967296", 'subscribe: invalid options: invalid maxMessageSizeBytes "4294967296"'),
    ("wantedDids=x", "subscribe: invalid options: wantedDids is the legacy /subscribe parameter; use dids"),
    ("zstdDictionary=x", "zstdDictionary must be a positive integer zstd dictionary ID"),
    ("zstdDictionary=0", "zstdDictionary must be a positive integer zstd dictionary ID"),
]


@pytest.mark.parametrize(("query", "message"), _REFUSALS)
async def test_refusals_come_before_the_upgrade_and_have_a_name(start: Start, query: str, message: str) -> None:
    status, content_type, body = await refusal(start(), f"{V2}?{query}")
    assert (status, content_type) == (400, "application/json")
    assert json.loads(body) == {"error": "InvalidRequest", "message": message}


async def test_refusals_are_those_of_the_real_server(start: Start, network: Network) -> None:
    recorded = json.loads(reference("server/handshake_errors.json").read_text())
    simulator = start(dictionary_v2=reference("dictionaries/v2-20260811.zdict").read_bytes())
    assert len(recorded) >= 10
    for one in recorded:
        expected = (one["status"], one["content_type"], one["body"])
        assert await refusal(simulator, one["path"]) == expected, one["path"]


async def refusal(simulator: object, path: str) -> tuple[int, str, str]:
    address, _, query = path.partition("?")
    with pytest.raises(InvalidStatus) as refused:
        async with subscribed(simulator, query, path=address):  # type: ignore[arg-type]
            pass
    response = refused.value.response
    return response.status_code, response.headers["Content-Type"], bytes(response.body).decode()
