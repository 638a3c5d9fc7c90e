"""The model of an event: what real events become, what it refuses, and that its JSON leads back to it."""

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.record import JetstreamRecord, payloads
from jetstream_pipeline.simulator import Network
from jetstream_pipeline_tests.reference import reference

_START = 1_783_175_880_000_000


@pytest.mark.parametrize("name", ["events/real-v1-kinds.jsonl", "events/real-v1-window.jsonl"])
def test_real_messages_and_their_payloads_are_the_same_event(name: str) -> None:
    messages = reference(name).read_bytes().splitlines()
    texts = list(payloads(decode(messages, "host").events))
    for message, text in zip(messages, texts, strict=True):
        record, sent = JetstreamRecord.from_json(text), json.loads(message)
        assert (record.did, record.time_us, record.kind) == (sent["did"], sent["time_us"], sent["kind"])
        assert record.collection == sent.get("commit", {}).get("collection")
        assert json.loads(record.to_json())[record.kind] == sent[record.kind]
        assert JetstreamRecord.from_json(message).commit == record.commit
        assert JetstreamRecord.from_json(record.to_json()) == record


def test_every_event_of_the_simulated_network_comes_through() -> None:
    events = list(Network(rate=100).events(_START, _START + 120_000_000))
    texts = payloads(decode([event.message for event in events], "host").events)
    for event, text in zip(events, texts, strict=True):
        record = JetstreamRecord.from_json(text)
        assert (record.seq, record.uri) == (event.seq, event.uri)
        if event.record_json is not None:
            assert event.record_json in text
            assert record.commit
            assert record.commit.record == json.loads(event.record_json)


def commit(**changes: object) -> dict:
    body = {"rev": "3k", "operation": "create", "collection": "a.b.c", "rkey": "k", "record": {}, "cid": "bafy"}
    return {"did": "did:plc:a", "time_us": _START, "kind": "commit", "commit": body | changes}


def test_helpers_say_where_and_when() -> None:
    record = JetstreamRecord.model_validate(commit())
    assert record.uri == "at://did:plc:a/a.b.c/k"
    assert record.time == datetime(2026, 7, 4, 14, 38, tzinfo=UTC)
    assert record.collection == "a.b.c"


def test_fields_that_it_does_not_know_are_kept() -> None:
    record = JetstreamRecord.model_validate(commit(weather="fine") | {"cursor": 7})
    assert json.loads(record.to_json())["commit"]["weather"] == "fine"
    assert json.loads(record.to_json())["cursor"] == 7


@pytest.mark.parametrize(
    "event",
    [
        {},
        commit() | {"time_us": "1783175880000000"},
        commit() | {"time_us": -1},
        commit() | {"did": ""},
        commit() | {"kind": "identity"},
        commit() | {"kind": "weather"},
        commit(operation="drop"),
        commit(record=[]),
        {"did": "did:plc:a", "time_us": _START, "kind": "account", "account": {"did": "did:plc:a", "active": "yes"}},
    ],
)
def test_it_is_strict_about_its_own_fields(event: dict) -> None:
    with pytest.raises(ValidationError):
        JetstreamRecord.model_validate(event)


def test_a_lone_surrogate_leads_back_to_itself() -> None:
    text = json.dumps(commit(record={"text": "half \ud83d"}))
    record = JetstreamRecord.from_json(text)
    assert record.commit
    assert record.commit.record == {"text": "half \ud83d"}
    assert JetstreamRecord.from_json(record.to_json()) == record


def test_what_cannot_be_read_is_a_value_error() -> None:
    deep = json.dumps(commit(record={"a": 1})).replace('{"a": 1}', '{"a":' * 5000 + "1" + "}" * 5000)
    for text in ("", "[]", "{", deep):
        with pytest.raises(ValueError, match=r"."):
            JetstreamRecord.from_json(text)
