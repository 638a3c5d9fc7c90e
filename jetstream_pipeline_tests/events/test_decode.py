"""Messages become columns, exactly; what is no event is handed back with its bytes and the reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events.decode import MAX_EVENT_BYTES, decode
from jetstream_pipeline.simulator import Network
from jetstream_pipeline_tests.reference import reference

CREATE = (
    '{"did":"did:plc:a","time_us":1783175888085434,"kind":"commit","commit":{"rev":"3k","operation":"create",'
    '"collection":"app.bsky.feed.post","rkey":"k","record":RECORD,"cid":"bafy"}}'
)


def read_one(message: bytes) -> dict:
    decoded = decode([message], "host")
    assert not decoded.rejected, decoded.rejected[0].reason
    return decoded.events.to_pylist()[0]


@pytest.mark.parametrize(
    "name", ["events/real-v1-kinds.jsonl", "events/real-v1-window.jsonl", "server/v1_frames.jsonl"]
)
def test_every_real_event_survives_with_its_record_as_received(name: str) -> None:
    messages = reference(name).read_bytes().splitlines()
    decoded = decode(messages, "host")
    assert not decoded.rejected
    for message, row in zip(messages, decoded.events.to_pylist(), strict=True):
        event = json.loads(message)
        commit = event.get("commit", {})
        assert (row["time_us"], row["did"], row["kind"]) == (event["time_us"], event["did"], event["kind"])
        assert row["seq"] == event.get("cursor")
        for column in ("operation", "collection", "rkey", "rev", "cid"):
            assert row[column] == commit.get(column)
        body = row["record"] or row["payload"]
        if body is None:
            assert row["operation"] == "delete"
        else:
            assert body.encode() in message
            assert json.loads(body) == commit.get("record", event.get(event["kind"]))


def test_the_simulated_network_survives() -> None:
    start = 1_783_175_880_000_000
    events = list(Network(rate=100).events(start, start + 60_000_000))
    decoded = decode([event.message for event in events], "host")
    assert not decoded.rejected
    assert decoded.events["record"].to_pylist() == [event.record_json for event in events]
    assert decoded.events["payload"].to_pylist() == [event.payload_json for event in events]


@pytest.mark.parametrize(
    "record",
    [
        r'{"a":"\ud800"}',
        r'{"a":"\udc00 and \ud83d\ude00 and \ud83d"}',
        r'{"\ud800":"\\ud800 \\\ud800"}',
        r'{"a":"\u0000"}',
        '{"a":123456789012345678901234567890}',
        '{"a":' + "[" * 300 + "]" * 300 + "}",
        '{ "a" :\t1 , "a":2}',
    ],
)
def test_odd_records_are_kept_to_the_byte(record: str) -> None:
    assert read_one(CREATE.replace("RECORD", record).encode())["record"] == record


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "truncated"),
        (b"hello", "malformed"),
        (b"\xff\xfe", "decode"),
        (b"[]", "Expected `object`"),
        (b"{}", "did"),
        (b'{"did":"d","time_us":"1","kind":"commit"}', "time_us"),
        (b'{"did":"d","time_us":-1,"kind":"commit"}', "time_us"),
        (b'{"did":"d","time_us":1,"kind":"commit"}', "commit"),
        (b'{"did":"d","time_us":1,"kind":"other"}', "kind"),
        (b'{"did":"d","time_us":1,"kind":"account"}', "account"),
        (b'{"did":"d","time_us":1,"kind":"account","account":7}', "not an object"),
        (CREATE.replace('"record":RECORD,', "").encode(), "record"),
        (CREATE.replace("RECORD", "{}").replace(',"cid":"bafy"', "").encode(), "cid"),
        (CREATE.replace("RECORD", "{}").replace('"k"', r'"\ud800"').encode(), "surrogate"),
        (CREATE.replace("RECORD", "[" * 100_000 + "]" * 100_000).encode(), "nested"),
        (CREATE.replace("RECORD", '{"a":"' + "x" * MAX_EVENT_BYTES + '"}').encode(), "larger"),
    ],
)
def test_what_is_no_event_is_handed_back(message: bytes, reason: str) -> None:
    good = CREATE.replace("RECORD", "{}").encode()
    decoded = decode([good, message, good], "host")
    assert decoded.events.num_rows == 2
    (rejected,) = decoded.rejected
    assert rejected.message == message
    assert rejected.after == 1
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("kind", "shown"), [("x" * 1_000_000, "x" * 200), (r"\u001b[31mred\u0000", r"\x1b[31mred\x00"), ("café", "café")]
)
def test_what_a_stranger_wrote_is_quoted_briefly_and_in_print(kind: str, shown: str) -> None:
    (rejected,) = decode([f'{{"did":"d","time_us":1,"kind":"{kind}"}}'.encode()], "host").rejected
    assert shown in rejected.reason
    assert len(rejected.reason) < 400
    assert rejected.reason.isprintable()


@given(st.lists(st.binary(max_size=60)))
def test_no_message_is_lost_whatever_it_holds(messages: list[bytes]) -> None:
    decoded = decode(messages, "host")
    assert decoded.events.num_rows + len(decoded.rejected) == len(messages)


@pytest.mark.parametrize(
    "text",
    [
        r"lone \ud83d high",
        r"lone \ude00 low",
        r"pair \ud83d\ude00",
        r"\\ud83d\ude00",
        r"\ud83d\\ude00",
        r"\ude00\ud83d\ud83d\ude00\n",
    ],
)
def test_surrogates_are_told_from_escaped_backslashes_and_kept_as_received(text: str) -> None:
    record = f'{{"text":"{text}"}}'
    assert read_one(CREATE.replace("RECORD", record).encode())["record"] == record


def test_a_time_after_the_latest_possible_one_is_rejected() -> None:
    message = CREATE.replace("RECORD", "{}").encode()
    assert not decode([message], "host", 1_783_175_888_085_434).rejected
    (rejected,) = decode([message], "host", 1_783_175_888_085_433).rejected
    assert (rejected.message, rejected.reason) == (message, "a time in the future")
