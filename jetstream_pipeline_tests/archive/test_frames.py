"""A frame gives its content whole and as it was written, or not at all, and never more than it may have."""

import subprocess
import sys

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.archive.frames import MAX_CONTENT_BYTES, Frame, decompressed
from jetstream_pipeline_tests.archive.segments import content_of, frame_of, rows

CONTENT = content_of(rows(40))
FRAME = frame_of(CONTENT)
UNSIZED = frame_of(CONTENT, size=False)


@pytest.mark.parametrize("frame", [FRAME, UNSIZED])
@pytest.mark.parametrize("known", [None, len(CONTENT)])
def test_a_frame_gives_its_content_whether_or_not_it_says_how_much(frame: bytes, known: int | None) -> None:
    assert decompressed(frame, "block", known) == CONTENT


@pytest.mark.parametrize("frame", [FRAME, UNSIZED])
@pytest.mark.parametrize("known", [0, len(CONTENT) - 1, len(CONTENT) + 1, 2**32 - 1])
def test_content_of_another_size_than_the_index_says_is_damage(frame: bytes, known: int) -> None:
    with pytest.raises(DamagedSegment, match="bytes of content"):
        decompressed(frame, "block", known)


@pytest.mark.parametrize("frame", [FRAME, UNSIZED])
def test_a_frame_that_is_cut_anywhere_is_damage(frame: bytes) -> None:
    for size in range(len(frame)):
        with pytest.raises(DamagedSegment):
            decompressed(frame[:size], "block")


@pytest.mark.parametrize("frame", [FRAME, UNSIZED])
@pytest.mark.parametrize("more", [b"\0", FRAME, bytes(5000), b"\x50\x2a\x4d\x18\x00\x00\x00\x00"])
def test_nothing_may_follow_a_frame(frame: bytes, more: bytes) -> None:
    with pytest.raises(DamagedSegment):
        decompressed(frame + more, "block")


@pytest.mark.parametrize("frame", [FRAME, UNSIZED])
def test_a_bit_that_flips_is_noticed_or_changes_nothing(frame: bytes) -> None:
    """The format has a bit that a decoder overlooks, and ways to say the same otherwise."""
    unnoticed = 0
    for place in range(len(frame)):
        for bit in range(8):
            flipped = frame[:place] + bytes([frame[place] ^ 1 << bit]) + frame[place + 1 :]
            try:
                assert decompressed(flipped, "block") == CONTENT
            except DamagedSegment:
                continue
            unnoticed += 1
    assert unnoticed < len(frame) * 8 / 100


def test_a_frame_without_a_checksum_is_not_trusted() -> None:
    with pytest.raises(DamagedSegment, match="no checksum"):
        decompressed(frame_of(CONTENT, checksum=False), "block")


@given(st.binary(max_size=80), st.booleans())
@settings(max_examples=100)
def test_any_bytes_are_a_frame_or_damage(data: bytes, with_magic: bool) -> None:
    frame = FRAME[:4] + data if with_magic else data
    assert Frame(frame, "block").content_bytes >= 0
    with pytest.raises(DamagedSegment):
        decompressed(frame, "block")


_BOMB = """
import resource, sys
from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.archive.frames import decompressed
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decompressed(sys.stdin.buffer.read(), "block")
except DamagedSegment:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("size", [True, False])
def test_a_frame_that_holds_too_much_is_not_held(size: bool) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=True, write_content_size=size).compressobj(
        size=2 * MAX_CONTENT_BYTES if size else -1
    )
    piece = bytes(1 << 20)
    bomb = b"".join([*(compressor.compress(piece) for _ in range(2 * MAX_CONTENT_BYTES >> 20)), compressor.flush()])
    done = subprocess.run([sys.executable, "-c", _BOMB], input=bomb, capture_output=True, check=True)
    assert int(done.stdout) * 1024 < 1.5 * MAX_CONTENT_BYTES
