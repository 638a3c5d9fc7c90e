"""What a real server sealed becomes exactly what its stream sends for it."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from jetstream_pipeline.archive.block import Block, decode_block
from jetstream_pipeline.archive.segment import open_segment
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline_tests.archive.segments import IDENTITY, Row, cbor, content_of, frame_of
from jetstream_pipeline_tests.reference import reference

OPERATIONS = {"create": 1, "update": 2, "delete": 3}


def blocks_of(path: Path) -> list[Block]:
    with open_segment(path) as segment:
        return [decode_block(frame.data, "host", frame.where, entry=frame.entry) for frame in segment.frames()]


def together(blocks: list[Block]) -> pa.RecordBatch:
    assert not any(block.rejected for block in blocks)
    return pa.concat_batches([block.events for block in blocks])


def test_a_segment_is_what_the_stream_sends_column_by_column() -> None:
    frames = reference("segment/seg_0000000000.v2.jsonl").read_bytes().splitlines()
    expected = decode(frames, "host", wire=Wire.V2).events
    blocks = blocks_of(reference("segment/seg_0000000000.jss"))
    assert together(blocks).equals(expected)
    together(blocks).validate(full=True)
    witnessed = pa.chunked_array([block.witnessed_us for block in blocks]).combine_chunks()
    assert witnessed.equals(expected["time_us"])


def test_the_facts_of_a_segment_are_those_that_its_server_lists() -> None:
    listed = json.loads(reference("server/listSegments.json").read_text())["segments"][0]
    path = reference("segment/seg_0000000000.jss")
    with open_segment(path) as segment:
        assert segment.checksum == listed["checksum"]
        assert (segment.events, segment.min_seq, segment.max_seq) == tuple(
            listed[name] for name in ("eventCount", "minSeq", "maxSeq")
        )
        assert (segment.min_witnessed_us, segment.max_witnessed_us) == (
            listed["minWitnessedAt"],
            listed["maxWitnessedAt"],
        )


def test_a_block_as_getblock_serves_it_is_the_one_in_the_file() -> None:
    served = reference("segment/seg_0000000000.block0.zst").read_bytes()
    with open_segment(reference("segment/seg_0000000000.jss")) as segment:
        assert segment.frame(0) == served
        (first, *_) = blocks_of(segment.path)
    assert decode_block(served, "host", "block").events.equals(first.events)


def test_cids_and_revs_of_a_real_repository_are_those_of_another_implementation() -> None:
    lines = reference("segment/real-repo-records.tsv").read_text().splitlines()
    expected = dict(line.split("\t")[:2] for line in lines)
    events = together(blocks_of(reference("segment/real-repo.jss"))).to_pylist()
    assert {f"{event['collection']}/{event['rkey']}": event["cid"] for event in events} == expected
    commit = reference("segment/real-repo-commit.txt").read_text()
    assert {event["did"] for event in events} | {event["rev"] for event in events} <= set(commit.split())


@pytest.mark.parametrize("name", ["segment/seg_0000000000.v2.jsonl", "server/v2_frames.jsonl"])
def test_events_of_a_stream_come_back_from_a_block_of_them(name: str) -> None:
    frames = reference(name).read_bytes().splitlines()
    expected = decode(frames, "host", wire=Wire.V2).events
    block = decode_block(frame_of(content_of(list(map(row_of_event, expected.to_pylist())))), "host", "block")
    assert not block.rejected
    assert block.events.equals(expected)


def row_of_event(event: dict[str, str]) -> Row:
    """The row that a server would write."""
    text = event["record"] or event["payload"]
    return Row(
        int(event["seq"]),
        int(event["time_us"]),
        kind=OPERATIONS.get(event["operation"], IDENTITY),
        did=event["did"].encode(),
        payload=cbor(json.loads(text)) if text else b"",
        **{name: (event[name] or "").encode() for name in ("collection", "rkey", "rev")},
    )
