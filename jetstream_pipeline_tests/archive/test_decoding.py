"""Blocks come in the order of their frames, decoded ahead, but never far ahead."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jetstream_pipeline.archive import decoding
from jetstream_pipeline.archive.block import decode_block
from jetstream_pipeline.archive.decoding import decoded_blocks
from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.archive.frames import Frame
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline_tests.archive.segments import Row, content_of, frame_of, rows

FRAMES = [Frame(frame_of(content_of([replace(Row(), seq=number)])), f"block {number}") for number in range(40)]
DAMAGED = Frame(FRAMES[0].data[:-1], "the damaged one")


def test_blocks_come_in_order_and_are_those_of_the_decoder() -> None:
    blocks = list(decoded_blocks(FRAMES, "host"))
    assert [block.events["seq"].to_pylist() for block in blocks] == [[number] for number in range(40)]
    assert blocks[7].events.equals(decode_block(FRAMES[7].data, "host", "block").events)


def test_the_filter_and_the_latest_time_are_applied() -> None:
    frame = Frame(frame_of(content_of([*rows(3), Row(collection=b"a.b.c")])), "block")
    (block,) = decoded_blocks([frame], "host", wanted=Subscription(collections=("app.bsky.feed.post",)).mask)
    assert block.events.num_rows == 3
    (block,) = decoded_blocks([frame], "host", latest_us=Row().witnessed_us)
    assert (block.events.num_rows, len(block.rejected)) == (2, 2)


def test_damage_is_told_after_the_blocks_before_it() -> None:
    blocks = decoded_blocks([*FRAMES[:5], DAMAGED, *FRAMES[5:]], "host")
    assert [next(blocks).events["seq"][0].as_py() for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DamagedSegment, match="the damaged one"):
        next(blocks)


def test_what_fails_while_frames_are_fetched_is_told() -> None:
    def failing() -> Iterator[Frame]:
        yield FRAMES[0]
        raise DamagedSegment("the next frame", "it is not there")

    with pytest.raises(DamagedSegment, match="the next frame"):
        list(decoded_blocks(failing(), "host"))


def test_only_so_much_is_decoded_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_AHEAD_BYTES", 4 * (decoding._EMPTY_BYTES + FRAMES[0].content_bytes))
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for taken, frame in enumerate(FRAMES, 1):  # noqa: B007 - counted for the test
            yield frame

    blocks = decoded_blocks(counted(), "host")
    for number in range(10):
        next(blocks)
        assert taken == number + 5
    blocks.close()


def test_a_block_larger_than_what_is_kept_ahead_comes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_AHEAD_BYTES", 1)
    assert len(list(decoded_blocks(FRAMES, "host"))) == 40


def test_no_thread_is_left_of_who_takes_no_more() -> None:
    before = threading.active_count()
    blocks = decoded_blocks(FRAMES, "host")
    next(blocks)
    blocks.close()
    assert threading.active_count() == before
