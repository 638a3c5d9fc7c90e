"""The fast road takes what the slow one takes, and makes the same of it, whatever a host sends."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.compiled import IS_COMPILED
from jetstream_pipeline.events import decode as decoding
from jetstream_pipeline.events import sound
from jetstream_pipeline.events.decode import decode, decode_each
from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.events.sound import Doubtful
from jetstream_pipeline.events.usual import usual_events
from jetstream_pipeline.events.wires import MAX_TIME_US, Wire
from jetstream_pipeline.simulator import Network
from jetstream_pipeline_tests.reference import reference

START_US = 1_783_175_880_000_000
EVENTS = list(Network(rate=100).events(START_US, START_US + 60_000_000))
KINDS = {(event.kind, event.operation, event.collection): event for event in EVENTS}
SAMPLES = {
    Wire.V1: [event.message for event in KINDS.values()],
    Wire.V2: [event.message_v2 for event in KINDS.values()],
}
ODD_VALUES: tuple[Any, ...] = (
    None, "", "error", "é", 0, -1, 5, 2**63, 2**64, 1.5, True, {}, {"a": 1}, [], "commit", "sync", "delete", "create",
    "2026-07-04T12:00:00Z", "2026-07-04T14:00:00.1234567+02:00", "2026-07-04 12:00:00Z", "2026-02-30T12:00:00Z",
    "1969-07-04T12:00:00Z", "2026-07-04T23:59:60Z", "0000-01-01T00:00:00Z", "2026-07-04T12:00Z", "2026-07-04T24:00:00Z",
)  # fmt: skip
ODD_NAMES = (
    "cid",
    "record",
    "identity",
    "account",
    "sync",
    "error",
    "message",
    "seq",
    "cursor",
    "commit",
    "rev",
    "other",
)
ODD_MESSAGES = (b"", b" ", b"\n", b"{}", b"null", b"{}{}", b"\xff", b'{"a":"\xff"}', b"[]", b"\xef\xbb\xbf{}")


@pytest.fixture(params=[True, False], ids=["cut", "read"], autouse=True)
def _compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param and not IS_COMPILED:
        pytest.skip("there was no compiler when the package was installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound, "IS_COMPILED", request.param)
        yield


def sound_events(messages: Sequence[bytes], host: str, latest_us: int, wire: Wire) -> pa.RecordBatch | None:
    try:
        return sound.sound_events(Messages.of(messages), host, latest_us, wire)
    except Doubtful:
        return None


@st.composite
def changed(draw: st.DrawFn, wire: Wire) -> bytes:
    """A message in which some bytes, or some values, are others."""
    message = draw(st.sampled_from(SAMPLES[wire]))
    how = draw(st.sampled_from(("sound", "bytes", "value", "value", "value", "odd", "spelled")))
    if how == "odd":
        return draw(st.sampled_from(ODD_MESSAGES))
    if how == "bytes":
        start = draw(st.integers(0, len(message)))
        length = draw(st.integers(0, 3))
        return message[:start] + draw(st.binary(max_size=3)) + message[start + length :]
    if how == "sound":
        return message
    try:
        event = json.loads(message)
    except ValueError:
        return message
    if how == "spelled":
        return json.dumps(event, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from((None, 1)))).encode(
            errors="surrogatepass"
        )
    place = draw(st.sampled_from([event, event.get("commit", event), event.get("payload", event)]))
    name = draw(st.sampled_from([*place, *ODD_NAMES]))
    if draw(st.booleans()):
        place.pop(name, None)
    else:
        place[name] = draw(st.sampled_from(ODD_VALUES))
    return json.dumps(event, separators=(",", ":")).encode()


@pytest.mark.parametrize("wire", Wire)
@settings(max_examples=400)
@given(data=st.data())
def test_both_roads_make_the_same_of_every_message(wire: Wire, data: st.DataObject) -> None:
    messages = data.draw(st.lists(changed(wire), min_size=1, max_size=6))
    latest_us = data.draw(st.sampled_from([START_US + 30_000_000, MAX_TIME_US]))
    for batch in (messages, *([message] for message in messages)):
        slow = decode_each(batch, "host", latest_us, wire)
        fast = sound_events(batch, "host", latest_us, wire)
        if fast is not None:
            fast.validate(full=True)
            assert fast.equals(slow.events)
            assert not slow.rejected
            assert not slow.notices


@pytest.mark.parametrize("wire", Wire)
@settings(max_examples=100)
@given(data=st.data())
def test_what_is_not_sound_stays_where_it_was_among_the_others(wire: Wire, data: st.DataObject) -> None:
    messages = data.draw(st.lists(changed(wire), max_size=40))
    at_once, alone = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "AT_ONCE", at_once)
        patch.setattr(decoding, "_ALONE", alone)
        assert decode(messages, "host", wire=wire) == decode_each(messages, "host", wire=wire)


@pytest.mark.parametrize("wire", Wire)
def test_everyday_events_take_the_fast_road(wire: Wire) -> None:
    messages = [event.message if wire is Wire.V1 else event.message_v2 for event in EVENTS if event.kind != "sync"]
    sound = [message for message in messages if b"\\ud83d" not in message]
    assert len(sound) > 5_000
    events = sound_events(sound, "host", MAX_TIME_US, wire)
    assert events is not None
    assert events.equals(decode_each(sound, "host", wire=wire).events)


@pytest.mark.parametrize(("name", "wire"), [("v1_frames", Wire.V1), ("v2_frames", Wire.V2)])
def test_a_servers_events_take_the_fast_road(name: str, wire: Wire) -> None:
    messages = reference(f"server/{name}.jsonl").read_bytes().splitlines()
    events = sound_events(messages, "host", MAX_TIME_US, wire)
    assert events is not None
    assert events.equals(decode_each(messages, "host", wire=wire).events)


def test_a_real_hosts_events_take_the_fast_road() -> None:
    messages = reference("events/real-v1-window.jsonl").read_bytes().splitlines()
    events = sound_events(messages, "host", MAX_TIME_US, Wire.V1)
    assert events is not None
    assert events.equals(decode_each(messages, "host").events)


COMMIT_V2 = next(message for message in SAMPLES[Wire.V2] if b"#commit" in message and b'"create"' in message)
IDENTITY_V2 = next(message for message in SAMPLES[Wire.V2] if b"#identity" in message)


@pytest.mark.parametrize(
    ("message", "old", "new"),
    [
        (COMMIT_V2, b'"rev":', b'"rev":null,"rev":'),
        (COMMIT_V2, b'"operation":', b'"operation":"other","operation":'),
        (COMMIT_V2, b'"rkey":', b'"rkey":"","rkey":'),
        (COMMIT_V2, b'"time":', b'"time":"now","time":'),
        (COMMIT_V2, b'"seq":', b'"seq":-1,"seq":'),
        (IDENTITY_V2, b'#identity"', b'#commit","$type":"network.bsky.jetstream.subscribeEvents#identity"'),
        (IDENTITY_V2, b'"identity":{', b'"identity":[],"identity":{'),
    ],
)
def test_a_value_that_another_one_follows_counts_as_it_does_alone(message: bytes, old: bytes, new: bytes) -> None:
    changed_message = message.replace(old, new, 1)
    assert changed_message != message
    slow = decode_each([changed_message], "host", wire=Wire.V2)
    fast = sound_events([changed_message], "host", MAX_TIME_US, Wire.V2)
    assert fast is None or (fast.equals(slow.events) and not slow.rejected)


@pytest.mark.parametrize("wire", Wire)
def test_messages_that_only_together_are_events_are_none(wire: Wire) -> None:
    event = SAMPLES[wire][0]
    cut = event.index(b',"', 20)
    batch = [event + event, event[: cut + 1], b"{" + event[cut + 1 :]]
    assert sound_events(batch, "host", MAX_TIME_US, wire) is None
    split = [event + event, b'{"did":"d","commit":', b'{"rev":"r"}}']
    assert sound_events(split, "host", MAX_TIME_US, wire) is None
    assert len(decode(split, "host", wire=wire).rejected) == 3


@pytest.mark.parametrize(
    "unsound", [b'{"a":"\\ud83d"}', b"{A", b"[]", b"{A}{A}", b'{"did":1}', b'{"did":"d","time_us":-1}']
)
@pytest.mark.parametrize("wire", Wire)
def test_only_what_is_not_sound_leaves_the_fast_road(
    monkeypatch: pytest.MonkeyPatch, wire: Wire, unsound: bytes
) -> None:
    alone: list[int] = []

    def counted(messages: Sequence[bytes], *arguments: Any) -> decoding.Decoded:
        alone.append(len(messages))
        return decode_each(messages, *arguments)

    monkeypatch.setattr(decoding, "decode_each", counted)
    messages = SAMPLES[wire] * 50
    for place in (400, 7, 100):
        messages.insert(place, unsound.replace(b"{A", SAMPLES[wire][0][:-1]))
    assert decode(messages, "host", wire=wire) == decode_each(messages, "host", wire=wire)
    assert sum(alone) <= 3 * decoding._ALONE


@pytest.mark.parametrize("messages", [[b"{A}{A}", b""], [b"{A}{A}", b" "], [b"{A}\n{A}"], [b"{A}\n", b"{A}"]])
def test_an_event_is_a_message_of_its_own(messages: list[bytes]) -> None:
    event = SAMPLES[Wire.V1][0]
    batch = [message.replace(b"{A}", event) for message in messages]
    assert sound_events(batch, "host", MAX_TIME_US, Wire.V1) is None
    assert decode(batch, "host") == decode_each(batch, "host")


@pytest.mark.parametrize("wire", Wire)
def test_messages_are_cut_where_that_is_compiled(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> None:
    cut: list[int] = []

    def counted(messages: Messages, *arguments: Any) -> pa.RecordBatch:
        cut.append(len(messages))
        return usual_events(messages, *arguments)

    monkeypatch.setattr(sound, "usual_events", counted)
    for number in (1, 10, 1_000):
        messages = [SAMPLES[wire][0]] * number
        assert sound_events(messages, "host", MAX_TIME_US, wire) is not None
    assert cut == ([1, 10, 1_000] if sound.IS_COMPILED else [])
