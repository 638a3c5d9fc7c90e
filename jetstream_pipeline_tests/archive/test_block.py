"""A block becomes the events that the stream would send, and what is no event is kept for a later version."""

import json
import struct
from dataclasses import replace
from typing import Any

import cbrrr
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.archive.block import HEAD_SCHEMA, Block, decode_block, decode_rows
from jetstream_pipeline.archive.columns import MAX_ROWS
from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.events.decode import MAX_EVENT_BYTES, decode
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline_tests.archive import segments
from jetstream_pipeline_tests.archive.segments import Row, cbor, content_of, frame_of, row_of, rows

START_US = segments.START_US
EVENTS = list(Network(rate=100).events(START_US, START_US + 60_000_000))
BROKEN = replace(Row(), payload=b"\xff")


def decoded(rows: list[Row], **options: Any) -> Block:
    block = decode_block(frame_of(content_of(rows)), "host", "block", **options)
    block.events.validate(full=True)
    assert block.events.schema.equals(EVENT_SCHEMA)
    assert len(block.witnessed_us) == block.events.num_rows
    return block


def as_a_server_spells_it(event: SimulatedEvent) -> SimulatedEvent:
    """With its keys in order, and no half of a pair, which CBOR cannot spell."""
    values: dict[str, str] = {}
    for name in ("record_json", "payload_json"):
        if text := getattr(event, name):
            value = json.loads(text.replace("\\ud83d", "?"))
            text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            for character in "<>&\u2028\u2029":
                text = text.replace(character, f"\\u{ord(character):04x}")
            values[name] = text
    return msgspec.structs.replace(event, **values)


def payload_of(event: SimulatedEvent) -> bytes:
    text = event.record_json or event.payload_json
    return cbor(json.loads(text)) if text else b""


def test_a_block_of_every_kind_is_what_the_second_wire_sends() -> None:
    events = [as_a_server_spells_it(event) for event in EVENTS]
    expected = decode([event.message_v2 for event in events], "host", wire=Wire.V2).events
    block = decoded([row_of(event, payload_of(event)) for event in events])
    assert not block.rejected
    assert {"commit", "identity", "account"} <= set(expected["kind"].to_pylist())
    ours, theirs = (table.drop_columns(["cid"]) for table in (block.events, expected))
    assert ours.equals(theirs)
    halves = [event.record_json is not None and "\\ud83d" in event.record_json for event in EVENTS]
    whole = pa.array(np.logical_not(halves))
    assert block.events["cid"].filter(whole).equals(expected["cid"].filter(whole))


@pytest.mark.parametrize(
    ("kind", "operation", "has_record"),
    [(segments.CREATE, "create", True), (segments.UPDATE, "update", True), (segments.DELETE, "delete", False),
     (segments.RESYNC, "create", True)],
)  # fmt: skip
def test_commits_by_their_kind(kind: int, operation: str, has_record: bool) -> None:
    (event,) = decoded([Row(seq=7, kind=kind)]).events.to_pylist()
    assert (event["kind"], event["operation"], event["seq"]) == ("commit", operation, 7)
    assert (event["collection"], event["rkey"], event["rev"]) == ("app.bsky.feed.post", "3k", "3r")
    assert event["record"] == ('{"text":"hi"}' if has_record else None)
    assert event["cid"] == (cbrrr.CID.cidv1_dag_cbor_sha256_32_from(Row().payload).encode() if has_record else None)


@pytest.mark.parametrize(
    ("kind", "name"), [(segments.IDENTITY, "identity"), (segments.ACCOUNT, "account"), (segments.SYNC, "sync")]
)
def test_other_kinds_have_a_payload_and_nothing_of_a_commit(kind: int, name: str) -> None:
    (event,) = decoded([Row(kind=kind, payload=cbor({"did": "did:plc:a"}))]).events.to_pylist()
    assert event["kind"] == name
    assert json.loads(event["payload"])["did"] == "did:plc:a"
    assert [event[name] for name in ("operation", "collection", "rkey", "rev", "cid", "record")] == [None] * 6


def test_an_imported_time_is_shown_and_the_witnessed_one_kept_beside() -> None:
    block = decoded([Row(indexed_us=5), Row()])
    assert block.events["time_us"].to_pylist() == [5, START_US]
    assert block.witnessed_us.to_pylist() == [START_US, START_US]


def test_a_block_may_be_empty() -> None:
    block = decoded([])
    assert (block.events.num_rows, len(block.witnessed_us), block.rejected) == (0, 0, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": 0}, "kind"),
        ({"kind": 8}, "kind"),
        ({"kind": 255}, "kind"),
        ({"did": b""}, "no `did`"),
        ({"collection": b""}, "without `collection`"),
        ({"rkey": b""}, "without `rkey`"),
        ({"rev": b""}, "without `rev`"),
        ({"did": b"did:\xff"}, "`did` is not UTF-8"),
        ({"rkey": b"\xe2\x80"}, "`rkey` is not UTF-8"),
        ({"seq": 2**63}, "sequence number"),
        ({"witnessed_us": -1}, "before 1970"),
        ({"indexed_us": -1}, "before 1970"),
        ({"witnessed_us": 2**62}, "future"),
        ({"indexed_us": 2**62}, "future"),
        ({"payload": b""}, "no payload"),
        ({"payload": b"\xff"}, "extra info"),
        ({"payload": b"\x80"}, "not an object"),
        ({"payload": bytes(MAX_EVENT_BYTES + 1)}, "larger than"),
        ({"kind": segments.IDENTITY, "payload": b""}, "no payload"),
        ({"kind": segments.ACCOUNT, "payload": b"\x80"}, "not an object"),
    ],
)
def test_a_row_that_is_no_event_lies_between_the_others_as_a_block_of_its_own(
    change: dict[str, Any], words: str
) -> None:
    row = replace(Row(), **change)
    block = decoded([Row(seq=1), Row(seq=2), row, Row(seq=3)])
    assert block.events["seq"].to_pylist() == [1, 2, 3]
    (rejected,) = block.rejected
    assert words in rejected.reason
    assert rejected.after == 2
    assert rejected.message == content_of([row])
    again = decode_rows(rejected.message, "host", "row")
    assert (again.events.num_rows, again.rejected) == (0, (replace(rejected, after=0),))


def test_a_row_that_becomes_readable_is_read_alone_as_among_others() -> None:
    (row,) = decoded([BROKEN]).rejected
    mended = row.message[:-1] + b"\xa0"
    assert decode_rows(mended, "host", "row").events["record"].to_pylist() == ["{}"]
    every = decoded([Row(), Row(kind=segments.DELETE)])
    alone = [decode_rows(content_of([row]), "host", "row").events for row in (Row(), Row(kind=segments.DELETE))]
    assert pa.concat_batches(alone).equals(every.events)


def test_characters_that_two_rows_would_share_are_in_neither() -> None:
    half = [Row(rkey="é".encode()[:1]), Row(rkey="é".encode()[1:])]
    assert len(decoded([*half, Row(rkey="é".encode())]).rejected) == 2


def test_no_event_is_later_than_the_caller_says() -> None:
    block = decoded(rows(5), latest_us=START_US + 2)
    assert block.events.num_rows == 3
    assert [rejected.after for rejected in block.rejected] == [3, 3]


@pytest.mark.parametrize(
    "subscription",
    [
        Subscription(collections=("app.bsky.feed.post", "app.bsky.graph.*")),
        Subscription(kinds=("identity",)),
        Subscription(dids=("did:plc:b",)),
        Subscription(collections=("com.example.none",), kinds=("commit",)),
    ],
)
def test_a_filter_lets_through_what_it_would_of_whole_events(subscription: Subscription) -> None:
    given = [row_of(event, payload_of(as_a_server_spells_it(event))) for event in EVENTS[:2000]]
    given[5] = replace(given[5], did=b"did:plc:b")
    whole = decoded(given)
    mask = subscription.mask(whole.events)
    block = decoded(given, wanted=subscription.mask)
    assert block.events.equals(whole.events.filter(mask))
    assert block.witnessed_us.equals(whole.witnessed_us.filter(mask))


def test_the_payload_of_a_row_that_is_not_wanted_is_not_looked_at() -> None:
    given = [Row(seq=1), replace(BROKEN, seq=2), Row(seq=3), replace(BROKEN, seq=4), Row(seq=5, did=b"")]
    seen: list[pa.RecordBatch] = []

    def wanted(heads: pa.RecordBatch) -> pa.BooleanArray:
        seen.append(heads)
        return pc.greater(heads["seq"], 2)

    block = decoded(given, wanted=wanted)
    assert seen[0].schema.equals(HEAD_SCHEMA)
    assert seen[0]["seq"].to_pylist() == [1, 2, 3, 4]
    assert block.events["seq"].to_pylist() == [3]
    assert [(rejected.message, rejected.after) for rejected in block.rejected] == [
        (content_of([given[3]]), 1),
        (content_of([given[4]]), 1),
    ]


def test_a_filter_that_does_not_know_lets_nothing_through() -> None:
    assert decoded([Row()], wanted=lambda heads: pa.nulls(heads.num_rows, pa.bool_())).events.num_rows == 0


kinds = st.integers(0, 9)
octets = st.binary(max_size=12)
any_row = st.builds(
    Row,
    seq=st.integers(0, 2**64 - 1) | st.integers(0, 9),
    witnessed_us=st.integers(-(2**63), 2**63 - 1) | st.just(START_US),
    indexed_us=st.sampled_from([0, 0, 5, -1]),
    kind=kinds,
    collection=octets | st.just(b"a.b.c"),
    did=octets | st.just(b"did:plc:a"),
    rkey=octets | st.just(b"k"),
    rev=octets | st.just(b"r"),
    payload=octets | st.just(Row().payload),
)


@given(st.lists(any_row, max_size=8))
@settings(max_examples=150)
def test_every_row_is_an_event_or_rejected_and_each_is_so_by_itself(given: list[Row]) -> None:
    block = decoded(given)
    assert block.events.num_rows + len(block.rejected) == len(given)
    alone = [decode_rows(content_of([row]), "host", "row") for row in given]
    if alone:
        assert pa.concat_batches([one.events for one in alone]).equals(block.events)
    assert [one.message for one in block.rejected] == [one.message for part in alone for one in part.rejected]
    assert [one.reason for one in block.rejected] == [one.reason for part in alone for one in part.rejected]
    before = np.cumsum([0] + [part.events.num_rows for part in alone])
    assert [one.after for one in block.rejected] == [
        int(count) for part, count in zip(alone, before, strict=False) if part.rejected
    ]


GOOD = content_of(rows(3))
COLUMNS = [4, 28, 52, 76, 79, 82, 88, 91, 94, 106, len(GOOD)]
"""Where the columns of three rows begin, and where the last one ends."""


def damage(content: bytes) -> str:
    with pytest.raises(DamagedSegment, match=r"^block is damaged: ") as raised:
        decode_rows(content, "host", "block")
    return str(raised.value)


@pytest.mark.parametrize(
    "size", sorted({0, 1, 3, *(place + by for place in COLUMNS for by in (-1, 0, 1))} - {len(GOOD)})
)
def test_content_that_ends_early_or_late_is_damaged(size: int) -> None:
    damage((GOOD + b"\0")[:size])


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, MAX_ROWS + 1, 2**32 - 1])
def test_a_number_of_events_that_is_not_theirs_is_damage(count: int) -> None:
    damage(struct.pack("<I", count) + GOOD[4:])


def test_more_rows_than_any_server_writes_are_damage() -> None:
    assert "cannot hold" in damage(struct.pack("<I", MAX_ROWS + 1) + bytes(34 * (MAX_ROWS + 1)))


@pytest.mark.parametrize("place", range(79, 106))
def test_each_length_must_add_up(place: int) -> None:
    for changed in (GOOD[place] ^ 1, GOOD[place] ^ 0x80):
        damage(GOOD[:place] + bytes([changed]) + GOOD[place + 1 :])
