"""The second wire's frames become the same columns; what the host says of the stream is told apart from events."""

import json

import pytest

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.wires import Notice, Wire
from jetstream_pipeline_tests.reference import reference

_TYPE = "network.bsky.jetstream.subscribeEvents"


def frame(kind: str, record: str = '{"a":1}', **fields: object) -> bytes:
    event = {
        "seq": 7,
        "did": "did:plc:a",
        "time": "2026-07-04T14:38:08.085434Z",
        "rev": "3k",
        "operation": "create",
        "collection": "app.bsky.feed.post",
        "rkey": "k",
        "cid": "bafy",
        **fields,
    }
    text = json.dumps({"$type": f"{_TYPE}#{kind}", **event})
    return f'{{"$type":"message","payload":{text[:-1]},"record":{record}}}}}'.encode()


def test_both_wires_of_a_server_give_the_same_table() -> None:
    v1 = decode(reference("server/v1_frames.jsonl").read_bytes().splitlines(), "host")
    v2 = decode(reference("server/v2_frames.jsonl").read_bytes().splitlines(), "host", wire=Wire.V2)
    assert not v2.rejected
    assert v2.events.num_rows == 800
    assert v2.events.equals(v1.events)


def test_every_frame_of_a_segment_is_read() -> None:
    frames = reference("segment/seg_0000000000.v2.jsonl").read_bytes().splitlines()
    decoded = decode(frames, "host", wire=Wire.V2)
    assert not decoded.rejected
    assert decoded.events["seq"].to_pylist() == [json.loads(line)["payload"]["seq"] for line in frames]


def test_a_clamp_is_told() -> None:
    frames = reference("server/v2_info_outdated_cursor.jsonl").read_bytes().splitlines()
    (notice,) = decode(frames, "host", wire=Wire.V2).notices
    assert (notice.name, notice.ends) == ("OutdatedCursor", False)
    assert "starting at seq" in notice.message


def test_an_error_frame_ends_the_stream() -> None:
    decoded = decode([b'{"$type":"error","error":"ConsumerTooSlow","message":"too slow"}'], "host", wire=Wire.V2)
    assert decoded.notices == (Notice("ConsumerTooSlow", "too slow", ends=True),)


def test_types_that_a_later_server_knows_are_no_events_unless_they_are_numbered() -> None:
    unknown = f'{{"$type":"message","payload":{{"$type":"{_TYPE}#weather","name":"Rain","did":7}}}}'.encode()
    decoded = decode([unknown, frame("label")], "host", wire=Wire.V2)
    assert [notice.name for notice in decoded.notices] == ["Rain"]
    assert [rejected.message for rejected in decoded.rejected] == [frame("label")]
    assert "#label" in decoded.rejected[0].reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "truncated"),
        (b"[]", "object"),
        (b'{"did":"did:plc:a"}', "$type"),
        (b'{"$type":"message"}', "$type"),
        (b'{"$type":"message","payload":{"did":"did:plc:a"}}', "$type"),
        (b'{"$type":"message","payload":{"$type":7}}', "$type"),
        (frame("commit").replace(b'"seq"', b'"sequence"'), "seq"),
        (frame("commit", seq=None), "seq"),
        (frame("commit", seq=None, operation="remove"), "seq"),
        (frame("identity", seq=None), "seq"),
        (frame("commit", "7"), "not an object"),
        (frame("commit", cid=None), "without `cid`"),
        (frame("commit", time="yesterday"), "time"),
        (frame("commit", time="1969-12-31T23:59:59Z"), "before 1970"),
        (frame("commit", seq=-1), "seq"),
        (frame("identity"), "identity"),
        (frame("commit", did=r"did\ud800"), "surrogate"),
    ],
)
def test_what_is_no_event_is_handed_back(message: bytes, reason: str) -> None:
    message = message.replace(rb"\\u", rb"\u")
    (rejected,) = decode([message], "host", wire=Wire.V2).rejected
    assert rejected.message == message
    assert reason in rejected.reason


def test_a_lone_surrogate_is_kept_as_received() -> None:
    record = r'{"text":"half a pair: \ud83d","whole":"\ud83d\ude00"}'
    decoded = decode([frame("commit", record)], "host", wire=Wire.V2)
    assert decoded.events["record"].to_pylist() == [record]


def test_fractions_of_a_second_may_have_any_length() -> None:
    times = ["2026-07-04T14:38:08Z", "2026-07-04T14:38:08.5Z", "2026-07-04T16:38:08.000001+02:00"]
    events = decode([frame("commit", time=time) for time in times], "host", wire=Wire.V2).events
    assert events["time_us"].to_pylist() == [1783175888000000, 1783175888500000, 1783175888000001]
