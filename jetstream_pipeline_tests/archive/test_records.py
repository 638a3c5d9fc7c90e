"""The JSON text of records and upstream events is the server's, character by character."""

import json
import struct
from typing import Any

import cbrrr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.archive import shapes
from jetstream_pipeline.archive.records import json_bodies, json_records
from jetstream_pipeline.archive.shapes import MAX_DEPTH, MAX_VALUES
from jetstream_pipeline.events.decode import MAX_EVENT_BYTES
from jetstream_pipeline_tests.archive.segments import cbor

CID = "bafyreiho62j5sbm24lag45mz6ak7zkrmzw2qsg4cecdkncs3wleybbjqoe"
BLOB = "bafkreibpjlal3phb4p7di3xyhmffvrazdnnw56cl4iqk74x637crmyyaxe"
HEAD = b"\xa1\x61a"
"""A map of one value, which is `a`."""


def text_of(payload: bytes) -> str:
    rendered = json_records([payload])
    assert not rendered.refused
    assert len(rendered.text) == rendered.lengths.sum()
    return rendered.text.decode()


def reason_of(payload: bytes) -> str:
    return json_records([payload]).refused[0]


def go_text(value: Any) -> str:
    """Go's `encoding/json` by another road."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["<a&b>", "\u2028", "\x7f\x00", "\ue000"])
keys = texts.filter(lambda key: key not in ("$bytes", "$link"))
"""But for those that mean another value than a map."""
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.sampled_from([{"$link": CID}, {"$link": BLOB}]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(keys, values, max_size=5), max_size=4))
@settings(max_examples=100)
def test_records_are_spelled_as_go_spells_them(records: list[dict[str, Any]]) -> None:
    rendered = json_records([cbor(record) for record in records])
    assert not rendered.refused
    assert rendered.text.decode() == "".join(map(go_text, records))
    assert rendered.lengths.tolist() == [len(go_text(record).encode()) for record in records]


@given(st.dictionaries(keys, st.floats(allow_nan=False, allow_infinity=False), max_size=5))
@settings(max_examples=100)
def test_floats_come_back_from_their_text(record: dict[str, float]) -> None:
    assert json.loads(text_of(cbrrr.encode_dag_cbor(record)), parse_int=float) == record


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"), (-0.0, "-0"), (0.0, "0"), (1.5, "1.5"), (-2.25, "-2.25"), (0.1, "0.1"), (1e-6, "0.000001"),
        (1.25e-6, "0.00000125"), (9.5e-7, "9.5e-7"), (1e-7, "1e-7"), (1e-10, "1e-10"), (5e-324, "5e-324"),
        (1e16, "10000000000000000"), (1.2345e20, "123450000000000000000"), (1e21, "1e+21"), (-1.5e22, "-1.5e+22"),
        (1.7976931348623157e308, "1.7976931348623157e+308"), (123456789.125, "123456789.125"),
    ],
)  # fmt: skip
def test_a_float_has_as_few_digits_as_it_takes(number: float, text: str) -> None:
    assert text_of(HEAD + b"\xfb" + struct.pack(">d", number)) == f'{{"a":{text}}}'


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (HEAD + b"\x43abc", '{"a":{"$bytes":"YWJj"}}'),
        (HEAD + b"\x41a", '{"a":{"$bytes":"YQ"}}'),
        (HEAD + b"\x82\x41a\xfb\x3f\xf8" + bytes(6), '{"a":[{"$bytes":"YQ"},1.5]}'),
        (HEAD + b"\x40", '{"a":{"$bytes":""}}'),
        (HEAD + b"\x43\xd8\x2a\x00", '{"a":{"$bytes":"2CoA"}}'),
        (cbor({"$link": CID}), f'{{"$link":"{CID}"}}'),
        (cbrrr.encode_dag_cbor({"$link": "nothing"}), '{"$link":"nothing"}'),
        (HEAD + b"\x1b" + b"\xff" * 8, '{"a":18446744073709551615}'),
        (HEAD + b"\x3b" + b"\xff" * 8, '{"a":-18446744073709551616}'),
        (cbor({"aa": 1, "b": 2, "": 3, "\U00010000": 4, "\uffff": 5}), '{"":3,"aa":1,"b":2,"\uffff":5,"\U00010000":4}'),
        (b"\xa0", "{}"),
        (cbor({"text": "x" * 5000 + "<"}), '{"text":"' + "x" * 5000 + '\\u003c"}'),
    ],
)
def test_values_that_json_has_no_word_for(payload: bytes, text: str) -> None:
    assert text_of(payload) == text


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "not enough bytes"),
        (b"\xa0\x00", "did not parse to end"),
        (bytes.fromhex("a2616101616102"), "key ordering"),
        (bytes.fromhex("a262616101616102"), "key ordering"),
        (bytes.fromhex("a10102"), "unexpected type"),
        (bytes.fromhex("bf616101ff"), "extra info"),
        (bytes.fromhex("a161617f6161ff"), "extra info"),
        (bytes.fromhex("a161611801"), "minimally"),
        (HEAD + bytes.fromhex("f93c00"), "float"),
        (HEAD + bytes.fromhex("fb7ff8000000000000"), "NaN"),
        (HEAD + bytes.fromhex("fb7ff0000000000000"), "Infinit"),
        (HEAD + b"\xf7", "extra info"),
        (HEAD + b"\x61\xff", "utf-8"),
        (HEAD + b"\x63\xed\xa0\xbd", "utf-8"),
        (HEAD + b"\xd8\x2b\x40", "tag"),
        (HEAD + b"\xd8\x2a\x41\x00", "no CID of this network"),
        (HEAD + b"\xd8\x2a\x58\x23\x00\x12\x20" + bytes(32), "no CID of this network"),
        (HEAD + b"\xd8\x2a\x58\x26\x00\x01\x71\x12\x20" + bytes(33), "no CID of this network"),
        (HEAD + b"\xd8\x2a\x58\x25\x00\x01\x70\x12\x20" + bytes(32), "no CID of this network"),
        (HEAD + b"\xd8\x2a\x58\x25\x01\x01\x71\x12\x20" + bytes(32), "CID"),
        (b"\x80", "not an object"),
        (b"\xf6", "not an object"),
        (b"\x9b" + b"\xff" * 8, "not enough bytes"),
        (cbor({"text": "\x01" * (MAX_EVENT_BYTES // 6)}), "larger than"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(payload: bytes, words: str) -> None:
    assert words in reason_of(payload)


def test_one_that_is_refused_leaves_the_others_as_they_are() -> None:
    good = [cbor({"n": number, "text": "&" * number}) for number in range(300)]
    payloads = [*good[:130], b"\x80", b"", *good[130:], HEAD + b"\xfb" + struct.pack(">d", 1.0), b"\x61"]
    rendered = json_records(payloads)
    assert set(rendered.refused) == {130, 131, len(payloads) - 1}
    ends = rendered.lengths.cumsum().tolist()
    found = [rendered.text[end - size : end] for end, size in zip(ends, rendered.lengths.tolist(), strict=True)]
    assert found[132:-2] == [go_text({"n": n, "text": "&" * n}).encode() for n in range(130, 300)]
    assert found[-2] == b'{"a":1}'


@pytest.mark.parametrize("opener", [b"\x81", HEAD])
@pytest.mark.parametrize("float_inside", [False, True])
def test_depth_has_one_limit_however_large_the_record(opener: bytes, float_inside: bool) -> None:
    inside = b"\xfb" + struct.pack(">d", 1.5) if float_inside else b"\x00"
    for padding in (b"\x60", b"\x79\x80\x00" + b"x" * 0x8000):
        # A map of `a`, which is nested, and `b`, which is long or not.
        def nested(levels: int, padding: bytes = padding) -> bytes:
            return b"\xa2\x61a" + opener * (levels - 1) + inside + b"\x61b" + padding

        assert not json_records([nested(MAX_DEPTH)]).refused
        assert reason_of(nested(MAX_DEPTH + 1)) == "nested too deeply"
        assert reason_of(nested(100_000)) == "nested too deeply"


def test_lists_that_claim_more_than_there_is_are_not_built() -> None:
    inside = b"\x9a\x00\x0e\x00\x00" * 500 + bytes(1 << 20)
    assert "more values than fit" in reason_of(HEAD + inside)
    empty = HEAD + b"\x9a" + (MAX_VALUES + 1).to_bytes(4, "big") + b"\x80" * (MAX_VALUES + 1)
    assert "more values than fit" in reason_of(empty)


@given(st.binary(max_size=64))
@settings(max_examples=300)
def test_any_bytes_are_a_record_or_refused(payload: bytes) -> None:
    rendered = json_records([payload])
    if not rendered.refused:
        assert isinstance(json.loads(rendered.text), dict)


@given(st.binary(max_size=64))
@settings(max_examples=200)
def test_the_walk_finds_no_fault_with_what_the_decoder_takes(payload: bytes) -> None:
    try:
        cbrrr.decode_dag_cbor(payload)
    except ValueError:
        return
    shapes._walk(payload)


@pytest.mark.parametrize(
    ("kind", "event", "text"),
    [
        ("identity", {"did": "d", "seq": 5, "time": "t"}, '{"did":"d","seq":5,"time":"t"}'),
        (
            "identity",
            {"did": "d", "handle": "a&b\u2028", "seq": 5, "time": "t", "new": [1.5]},
            '{"did":"d","handle":"a\\u0026b\u2028","seq":5,"time":"t"}',
        ),
        ("identity", {"handle": None, "$type": ""}, '{"did":"","seq":0,"time":""}'),
        ("account", {"did": "d", "seq": 5, "time": "t"}, '{"active":false,"did":"d","seq":5,"time":"t"}'),
        (
            "account",
            {"$type": "#account", "active": True, "did": "d", "seq": 5, "status": "x", "time": "t"},
            '{"$type":"#account","active":true,"did":"d","seq":5,"status":"x","time":"t"}',
        ),
        (
            "sync",
            {"did": "d", "rev": "r", "seq": 5, "blocks": b"ab", "time": "t"},
            '{"blocks":{"$bytes":"YWI"},"did":"d","rev":"r","seq":5,"time":"t"}',
        ),
    ],
)
def test_an_upstream_event_is_told_as_the_server_tells_it(kind: str, event: dict[str, Any], text: str) -> None:
    rendered = json_bodies([(kind, cbrrr.encode_dag_cbor(event))])
    assert not rendered.refused
    assert rendered.text.decode() == text


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("identity", []),
        ("identity", {"did": 1}),
        ("identity", {"did": None}),
        ("identity", {"seq": True}),
        ("identity", {"seq": 2**63}),
        ("account", {"active": 1}),
        ("account", {"status": b"x"}),
        ("sync", {"blocks": "x"}),
        ("sync", {"blocks": {"$bytes": "YWI"}}),
    ],
)
def test_an_upstream_event_that_the_server_cannot_read_is_refused(kind: str, event: Any) -> None:
    assert json_bodies([(kind, cbrrr.encode_dag_cbor(event))]).refused
