"""What is cut out of messages as servers spell them is what reading them one by one makes of them."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.compiled import IS_COMPILED
from jetstream_pipeline.events import usual
from jetstream_pipeline.events.decode import decode_each
from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.events.usual import Unusual, usual_events
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.simulator import Network
from jetstream_pipeline_tests.reference import reference

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason="there was no compiler when the package was installed")

START_US = 1_783_175_880_000_000
EVENTS = list(Network(rate=50).events(START_US, START_US + 60_000_000))
CREATE = next(event for event in EVENTS if event.operation == "create")
DELETE = next(event for event in EVENTS if event.operation == "delete")
ACCOUNT = next(event for event in EVENTS if event.kind == "account")
SYNC_V1 = b'{"did":"did:plc:a","time_us":1783175880000000,"cursor":7,"kind":"sync","sync":{"rev":"3"}}'
SYNC_V2 = (
    b'{"$type":"message","payload":{"$type":"network.bsky.jetstream.subscribeEvents#sync","did":"did:plc:a","seq":7,'
    b'"sync":{"rev":"3"},"time":"2026-07-04T14:38:00.5Z"}}'
)

TOKENS = st.sampled_from(
    (
        *"{}[]:,", '"a"', '"a":', '"', '"\\n"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00"', '"\\u12g4"',
        '"\\x"', '"\\', '"\x01"', '"\x7f"', '"é😀"', '"aaaaaaaaaaaaaaaa"', "true", "false", "null", "nul",
        "0", "-0", "01", "-", "1.5", "1.", ".5", "1e5", "1E+5", "1e", "1e999", "9" * 400,
        " ", "\n", "\t", "\x0b", "[" * 70, "]" * 70, '{"a":' * 70,
    )
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.one_of(
    st.lists(TOKENS, max_size=12).map(lambda tokens: ("{" + "".join(tokens) + "}").encode()),
    st.dictionaries(st.text(max_size=9), JSON, max_size=4).map(lambda body: json.dumps(body).encode()),
    st.dictionaries(st.text(max_size=9), JSON, max_size=4).map(
        lambda body: json.dumps(body, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    ),
)


def sent(event, wire: Wire) -> bytes:
    return event.message if wire is Wire.V1 else event.message_v2


def cut(messages: list[bytes], wire: Wire = Wire.V1) -> pa.RecordBatch:
    return usual_events(Messages.of(messages), "host", wire)


def is_as_read(messages: list[bytes], wire: Wire = Wire.V1) -> bool:
    events, each = cut(messages, wire), decode_each(messages, "host", wire=wire)
    events.validate(full=True)
    return events.equals(each.events) and not each.rejected


@pytest.mark.parametrize("wire", Wire)
def test_a_networks_messages_are_usual(wire: Wire) -> None:
    messages = [sent(event, wire) for event in EVENTS if b"\\ud83d" not in event.message]
    assert len(messages) > 2_500
    messages.insert(100, SYNC_V1 if wire is Wire.V1 else SYNC_V2)
    assert is_as_read(messages, wire)


def test_messages_without_numbers_are_usual() -> None:
    assert is_as_read([event.message_without_cursor for event in EVENTS if b"\\ud83d" not in event.message])


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("server/v1_frames.jsonl", Wire.V1),
        ("server/v2_frames.jsonl", Wire.V2),
        ("segment/seg_0000000000.v2.jsonl", Wire.V2),
        ("events/real-v1-window.jsonl", Wire.V1),
        ("events/real-v1-kinds.jsonl", Wire.V1),
    ],
)
def test_real_servers_messages_are_usual(name: str, wire: Wire) -> None:
    assert is_as_read(reference(name).read_bytes().splitlines(), wire)


@pytest.mark.parametrize("event", [CREATE, DELETE, ACCOUNT], ids=["create", "delete", "account"])
@pytest.mark.parametrize("wire", Wire)
@settings(max_examples=30)
@given(data=st.data())
def test_texts_of_any_length_are_usual(event, wire: Wire, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.sampled_from((1, 4, 12, 13, 14, 31, 32, 33, 63, 64, 65, 300, 600)), min_size=1))
    messages = []
    for number, length in enumerate(lengths):
        text = sent(event, wire).replace(event.did.encode(), b"d" * length)
        if event.rkey:
            text = text.replace(b'"rkey":"%s"' % event.rkey.encode(), b'"rkey":"%s"' % (b"r" * (length + number % 2)))
            text = text.replace(event.collection.encode(), b"c" * lengths[-number])
        messages.append(text)
    assert is_as_read(messages, wire)


@pytest.mark.parametrize("wire", Wire)
@settings(max_examples=50)
@given(data=st.data())
def test_where_messages_lie_makes_no_difference(wire: Wire, data: st.DataObject) -> None:
    messages = [sent(event, wire) for event in data.draw(st.lists(st.sampled_from(EVENTS[:50]), min_size=1))]
    before, after = (data.draw(st.sampled_from((0, 1, 5_000))) for _ in range(2))
    together = Messages.of(messages)
    memory = np.concatenate([np.full(before, ord("}")), together.text, np.full(after, ord("{"))]).astype(np.uint8)
    shift = before - int(together.starts[0])
    moved = Messages(memory, together.starts + shift, together.ends + shift)
    assert usual_events(moved, "host", wire).equals(decode_each(messages, "host", wire=wire).events)


UNUSUAL = {
    "other keys": json.dumps(dict(reversed(json.loads(CREATE.message).items())), separators=(",", ":")).encode(),
    "a blank": CREATE.message.replace(b":", b": ", 1),
    "an escape": CREATE.message.replace(b"did:plc", b"did\\u003aplc", 1),
    "a quotation mark": CREATE.message.replace(b'"rkey":"', b'"rkey":"\\"', 1),
    "no text": CREATE.message.replace(b'"rkey":"%s"' % CREATE.rkey.encode(), b'"rkey":""', 1),
    "a line break": CREATE.message.replace(b"did:plc", b"did\nplc", 1),
    "another operation": CREATE.message.replace(b'"create"', b'"delete"', 1),
    "an unknown operation": CREATE.message.replace(b'"create"', b'"destroy"', 1),
    "an unknown kind": CREATE.message.replace(b'"kind":"commit"', b'"kind":"comment"', 1),
    "no kind": CREATE.message.replace(b'"kind":"commit"', b'"kind":"xommit"', 1),
    "another key": CREATE.message.replace(b'"operation"', b'"operatiom"', 1),
    "another key at the end": CREATE.message.replace(b'},"cid"', b'},"cic"', 1),
    "a kind alone": ACCOUNT.message.replace(b'"kind":"account"', b'"kind":"identity"', 1),
    "a deletion of something": DELETE.message.replace(b'"delete"', b'"update"', 1),
    "more than a record": CREATE.message.replace(b',"cid":', b',"more":{},"cid":', 1),
    "another record": CREATE.message.replace(b',"cid":', b',"record":{},"cid":', 1),
    "more than a commit": CREATE.message.replace(b',"cid":', b'},"more":{"a":{},"cid":', 1),
    "half of a record": CREATE.message.replace(b'"record":{', b'"record":{{', 1),
    "a record that is none": CREATE.message.replace(CREATE.record_json.encode(), b'["record"]', 1),
    "no record": CREATE.message.replace(CREATE.record_json.encode(), b"", 1),
    "a blank in a record": CREATE.message.replace(b',"cid":', b' ,"cid":', 1),
    "a time that is none": CREATE.message.replace(b'"time_us":1', b'"time_us":0', 1),
    "a time before all": CREATE.message.replace(b'"time_us":1', b'"time_us":-1', 1),
    "a number in words": CREATE.message.replace(b'"cursor":', b'"cursor":1e', 1),
    "a number of other kinds": CREATE.message.replace(b'"cursor":', b'"cursor":1.', 1),
    "two messages": CREATE.message * 2,
    "half a message": CREATE.message[:60] + b"}",
}
UNUSUAL_V2 = {
    "a deletion of a record": CREATE.message_v2.replace(b'"create"', b'"delete"', 1),
    "a deletion of something": DELETE.message_v2.replace(b'"delete"', b'"update"', 1),
    "another operation": CREATE.message_v2.replace(b'"create"', b'"delete"', 1).replace(
        b',"record":{', b',"more":{', 1
    ),
    "a time of a zone": CREATE.message_v2.replace(b'Z"}}', b'+02:00"}}', 1),
    "a time of an hour's zone": CREATE.message_v2.replace(CREATE.message_v2[-29:-2], b'"2026-07-04T12:00:00+02"'),
    "a time of a short zone": CREATE.message_v2.replace(CREATE.message_v2[-29:-2], b'"2026-07-04T12:00:00+02:00"'),
    "a time of a day": CREATE.message_v2.replace(b'"time":"2026-07-04T', b'"time":"2026-07-04 ', 1),
    "a time of minutes": CREATE.message_v2.replace(CREATE.message_v2[-29:-2], b'"2026-07-04T12:00Z"'),
    "a time more precise": CREATE.message_v2.replace(b'Z"}}', b'00000001Z"}}', 1),
    "no such time": CREATE.message_v2.replace(b'"time":"2026-07-04', b'"time":"2026-02-30', 1),
    "a kind that is none": CREATE.message_v2.replace(b"#commit", b"#comment", 1),
    "what a host says": b'{"$type":"error","error":"Late","message":"too late"}',
    "keys in another order": CREATE.message_v2.replace(b'"rev":', b'"seq":1,"rev":', 1),
}


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        *(pytest.param(message, Wire.V1, id=f"v1 {name}") for name, message in UNUSUAL.items()),
        *(pytest.param(message, Wire.V2, id=f"v2 {name}") for name, message in UNUSUAL_V2.items()),
    ],
)
def test_what_is_spelled_otherwise_is_left_to_others(message: bytes, wire: Wire) -> None:
    usual = sent(CREATE, wire)
    assert message != usual
    for messages in ([message], [usual, message, usual]):
        with pytest.raises(Unusual):
            cut(messages, wire)


@pytest.mark.parametrize("digits", [20, 31, 64, 600, 634, 639, 640, 700])
def test_a_number_that_goes_on_for_long_leads_nowhere(digits: int) -> None:
    long = ACCOUNT.message.replace(b'"cursor":', b'"cursor":' + b"1" * digits, 1)
    cut_off = b'{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","time_us":1783175888085434,"cursor":}'
    for messages in ([long, cut_off], [cut_off, long], [long, CREATE.message]):
        with pytest.raises(Unusual):
            cut(messages)


def test_more_than_arrow_points_to_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = Messages.of([CREATE.message] * 3)
    monkeypatch.setattr(usual, "_MOST_BYTES", messages.size - 1)
    with pytest.raises(Unusual):
        usual_events(messages, "host", Wire.V1)
    monkeypatch.setattr(usual, "_MOST_BYTES", messages.size)
    assert usual_events(messages, "host", Wire.V1).num_rows == 3


@pytest.mark.parametrize("wire", Wire)
def test_a_body_that_cannot_be_read_is_named(wire: Wire) -> None:
    messages = [sent(event, wire) for event in EVENTS[:200] if b"\\ud83d" not in event.message]
    place = next(number for number, message in enumerate(messages) if number > 50 and b'"create"' in message)
    messages[place] = messages[place].replace(b'"$type":"app', b'"$type":"\\ud83d', 1)
    with pytest.raises(Unusual) as unusual_one:
        cut(messages, wire)
    assert unusual_one.value.place == place


def test_messages_that_are_not_there_are_not_read() -> None:
    memory = np.frombuffer(CREATE.message, np.uint8)
    for start, end in ((-1, 10), (0, len(memory) + 1), (20, 10)):
        with pytest.raises(IndexError):
            usual_events(Messages(memory, np.array([start]), np.array([end])), "host", Wire.V1)


@settings(max_examples=300)
@given(st.data())
def test_a_body_that_is_taken_is_json(data: st.DataObject) -> None:
    """What is taken for a body, the other reading takes too, and the other way round but for what is rare."""
    body = data.draw(BODIES)
    message = CREATE.message.replace(CREATE.record_json.encode(), body)
    each = decode_each([message], "host")
    try:
        events = cut([message])
    except Unusual:
        assert each.rejected or not body.startswith(b"{") or b"[" * 60 in body or b'{"a":' * 60 in body
    else:
        assert events.equals(each.events)
