"""What records refer to exists, is spelled right, and is still there."""

import json
import re
from collections import Counter
from typing import Any

import pytest

from jetstream_pipeline.simulator import Network, SimulatedEvent
from jetstream_pipeline.simulator.identifiers import record_cid
from jetstream_pipeline_tests.reference import reference
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US

_TID_CHARACTERS = "234567abcdefghijklmnopqrstuvwxyz"
_HOURS = 9
_SMALL = Network(seed=3, rate=4.0)


@pytest.fixture(scope="module")
def long_history() -> list[SimulatedEvent]:
    """A small network for long enough that most of what is referred to lies within."""
    return list(_SMALL.events(NOON_US, NOON_US + _HOURS * 60 * MINUTE_US))


def strong_references(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [found for item in value for found in strong_references(item)]
    if not isinstance(value, dict):
        return []
    if set(value) == {"cid", "uri"}:
        return [(value["uri"], value["cid"])]
    return [found for item in value.values() for found in strong_references(item)]


def test_cids_are_those_of_the_records(busy_events: list[SimulatedEvent]) -> None:
    for event in busy_events:
        if event.record_json is not None:
            record = json.loads(event.record_json.replace("\\ud83d", "\ufffd"))
            assert record_cid(record) == event.cid


def test_real_records_have_the_cids_that_we_compute() -> None:
    checked = 0
    for path in reference("events").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            commit = json.loads(line).get("commit", {})
            if "record" in commit:
                assert record_cid(commit["record"]) == commit["cid"]
                checked += 1
    assert checked > 50


def test_every_reference_is_to_a_record_that_exists(long_history: list[SimulatedEvent]) -> None:
    """Whoever refers to a record of this history refers to what it is at that moment."""
    existing: dict[str, str | None] = {}
    created: set[str] = set()
    resolved = unresolved = 0
    for event in long_history:
        if event.record_json is not None:
            for uri, cid in strong_references(json.loads(event.record_json)):
                if uri in created:
                    assert existing.get(uri) == cid, (event, uri)
                    resolved += 1
                else:
                    # It was written before this history began.
                    assert tid_time_us(uri.rsplit("/", 1)[1]) < NOON_US
                    unresolved += 1
        if event.uri is not None:
            if event.operation == "delete":
                existing.pop(event.uri, None)
            else:
                existing[event.uri] = event.cid
                created.add(event.uri)
    assert resolved > unresolved


def test_references_to_the_past_lead_to_records_of_the_past(busy_network: Network) -> None:
    """Without a history at hand: the key tells the minute, and that minute holds the record."""
    pages: dict[int, dict[str | None, str | None]] = {}
    checked = 0
    for event in list(busy_network.events(NOON_US, NOON_US + MINUTE_US))[::61]:
        if event.record_json is None:
            continue
        for uri, cid in strong_references(json.loads(event.record_json)):
            minute = tid_time_us(uri.rsplit("/", 1)[1]) // MINUTE_US
            known: dict[str | None, str | None] = {}
            for near in (minute, minute + 1):
                if near not in pages:
                    pages[near] = {earlier.uri: earlier.cid for earlier in busy_network.page(near)}
                known |= pages[near]
            assert known[uri] == cid
            checked += 1
        if checked > 15:
            break
    assert checked > 12


def tid_time_us(key: str) -> int:
    value = 0
    for character in key:
        value = value << 5 | _TID_CHARACTERS.index(character)
    return value >> 10


def test_deletes_hit_each_record_once_and_nothing_happens_to_it_later(
    long_history: list[SimulatedEvent],
) -> None:
    gone: set[str] = set()
    created: set[str] = set()
    known_deletes = 0
    for event in long_history:
        if event.uri is None or event.rkey == "self":
            continue
        assert event.uri not in gone
        if event.operation == "create":
            assert event.uri not in created
            created.add(event.uri)
        elif event.operation == "delete":
            gone.add(event.uri)
            known_deletes += event.uri in created
    assert known_deletes > 0.5 * len(gone)
    assert any(event.operation == "update" and event.uri in created for event in long_history)


def test_accounts_end_and_do_nothing_afterwards(long_history: list[SimulatedEvent]) -> None:
    inactive: dict[str, str] = {}
    statuses: Counter[str] = Counter()
    for event in long_history:
        if event.kind == "account":
            assert event.payload_json is not None
            body = json.loads(event.payload_json)
            assert inactive.get(event.did) in (None, "deactivated")
            if body["active"]:
                statuses["reactivated"] += inactive.pop(event.did, None) is not None
            else:
                inactive[event.did] = body["status"]
                statuses[body["status"]] += 1
        else:
            assert event.did not in inactive
        if event.record_json is not None:
            for uri, _ in strong_references(json.loads(event.record_json)):
                assert uri.split("/")[2] not in inactive
    assert set(statuses) >= {"deactivated", "reactivated", "deleted", "takendown"}


def test_likes_crowd_on_few_posts(busy_events: list[SimulatedEvent]) -> None:
    subjects = Counter(
        json.loads(event.record_json)["subject"]["uri"]
        for event in busy_events
        if event.collection == "app.bsky.feed.like" and event.record_json is not None
    )
    crowd = sum(number for _, number in subjects.most_common(100))
    assert crowd > 0.3 * subjects.total()
    assert len(subjects) > 1000


def test_posts_are_as_varied_as_the_real_ones(busy_events: list[SimulatedEvent]) -> None:
    posts = [
        json.loads(event.record_json)
        for event in busy_events
        if event.collection == "app.bsky.feed.post" and event.record_json is not None
    ]
    assert {language for post in posts for language in post.get("langs", ())} >= {
        "en",
        "ja",
        "pt",
        "de",
        "ko",
        "ar",
        "hi",
    }
    embeds = Counter(post["embed"]["$type"].rsplit(".", 1)[1] for post in posts if "embed" in post)
    assert set(embeds) == {"images", "external", "record", "video"}
    assert 0.25 < sum("reply" in post for post in posts) / len(posts) < 0.6
    for post in posts:
        text = post["text"].encode()
        for facet in post.get("facets", ()):
            marked = text[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode()
            feature = facet["features"][0]
            assert marked.startswith({"tag": "#", "mention": "@"}.get(feature["$type"].split("#")[1], ""))
            if "tag" in feature:
                assert marked == "#" + feature["tag"]


def test_identifiers_are_well_formed(busy_events: list[SimulatedEvent]) -> None:
    tid = re.compile(r"[234567abcdefghij][234567a-z]{12}")
    methods = Counter(event.did.split(":")[1] for event in busy_events)
    assert methods["plc"] > methods["web"] > 0
    for event in busy_events:
        assert re.fullmatch(r"did:plc:[a-z2-7]{24}|did:web:[a-z0-9.-]+", event.did)
        if event.rev is not None and event.rkey is not None:
            assert tid.fullmatch(event.rev)
            assert event.rkey == "self" or tid.fullmatch(event.rkey)


def test_strangers_write_strange_things(busy_network: Network) -> None:
    texts = [
        event.record_json
        for minute in range(16)
        for event in busy_network.page(NOON_US // MINUTE_US + minute)
        if event.collection == "com.example.oddity" and event.record_json is not None
    ]
    assert any("\\ud83d" in text for text in texts)
    assert any("\\u0000" in text for text in texts)
    assert any(text.count("[") > 20 for text in texts)
    assert any(isinstance(json.loads(text).get("value"), int) for text in texts)
