"""Hosts and filters: what is taken, what is refused, and that our second look agrees with a host's."""

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.simulator import Network


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("jetstream1.us-east.bsky.network", "jetstream1.us-east.bsky.network", "wss://jetstream1.us-east.bsky.network"),
        ("ws://127.0.0.1:6008", "127.0.0.1:6008", "ws://127.0.0.1:6008"),
        ("wss://example.org/", "example.org", "wss://example.org"),
        ("wss://example.org:443", "example.org", "wss://example.org:443"),
        ("example.org.", "example.org", "wss://example.org."),
        ("ws://example.org:443", "example.org:443", "ws://example.org:443"),
    ],
)
def test_a_host_is_a_name_or_an_address(text: str, name: str, address: str) -> None:
    assert Host.parse(text) == Host(name, address)


@pytest.mark.parametrize("text", ["", "http://a.org", "ws://", "a b", "ws://a.org/subscribe", "ws://a:99999"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a host"):
        Host.parse(text)


def test_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidInput, match="no user or password") as told:
        Host.parse("wss://me:secret@example.org")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "name", ["", "post", "app.bsky", "app.bsky.fo*", "*", "app.bsky.feed.post ", "app.bsky.feed.post\n", "app..post"]
)
def test_what_is_no_collection_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a collection"):
        Subscription(collections=(name,))


@pytest.mark.parametrize("did", ["", "xyz", "did:plc:", "did:PLC:a", "did:plc:a b", "did:plc:a\n"])
def test_what_is_no_did_is_refused(did: str) -> None:
    with pytest.raises(InvalidInput, match="is not a DID"):
        Subscription(dids=(did,))


def test_too_many_are_refused() -> None:
    with pytest.raises(InvalidInput, match="101 collections"):
        Subscription(collections=("app.bsky.feed.post",) * 101)


def test_the_fingerprint_is_that_of_the_filter_not_of_its_spelling() -> None:
    one = Subscription(("app.bsky.feed.post", "app.bsky.feed.like"))
    assert one.fingerprint == Subscription(("app.bsky.feed.like", "app.bsky.feed.post")).fingerprint
    assert one.fingerprint != Subscription(("app.bsky.feed.like",)).fingerprint
    assert one.fingerprint != Subscription(one.collections, ("did:plc:a",)).fingerprint


def test_our_filter_lets_through_what_a_host_would() -> None:
    start = 1_783_175_880_000_000
    events = list(Network(rate=100).events(start, start + 30_000_000))
    batch = decode([event.message for event in events], "host").events
    dids = tuple({event.did for event in events[:20]})
    passed = Subscription(("app.bsky.feed.like", "app.bsky.graph.*"), dids).mask(batch).to_pylist()
    assert any(passed)
    for event, through in zip(events, passed, strict=True):
        wanted = event.collection is None or event.collection == "app.bsky.feed.like"
        wanted = wanted or str(event.collection).startswith("app.bsky.graph.")
        assert through == (wanted and event.did in dids)
