"""Frames that are found many at once are those that are found one by one, however they arrive."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.events.messages import BLANK
from jetstream_pipeline.jetstream import frames
from jetstream_pipeline_tests.jetstream.peers import BINARY, PING, TEXT, frame

ROADS = [
    pytest.param(None, id="one by one"),
    pytest.param(
        frames.framing, id="compiled", marks=pytest.mark.skipif(not frames.framing, reason="there was no compiler")
    ),
]
LIKE_HEADERS = (b"\x81~", b"\x82~\x00\x04", b"\x81\x03", b"~", b"\x81~\x00\x00\x81~\x00\x00", b"\x89\x00")
SIZES = st.sampled_from((0, 1, 4, 125, 126, 127, 200, 300, 9_000, 65_535, 65_536))


@st.composite
def payload(draw: st.DrawFn) -> bytes:
    """Also one that has in it what looks like a header."""
    size = draw(SIZES)
    inner = b"".join(draw(st.lists(st.sampled_from(LIKE_HEADERS), max_size=3)))
    return (inner + bytes(size))[:size] if draw(st.booleans()) else (bytes(size) + inner)[-size:] if size else b""


def found(data: bytes, most: int = 1 << 20) -> tuple[list[bytes], int, np.ndarray]:
    """The messages that are found, where what follows begins, and the memory as it is left."""
    memory = np.frombuffer(b"??" + data + b"\x81\x00\x81~", np.uint8).copy()
    messages = frames.plain(memory, memory.data, 2, 2 + len(data), most)
    for end, start in zip(messages.ends[:-1], messages.starts[1:], strict=True):
        assert (memory[end:start] == BLANK).all()
    at = int(messages.ends[-1]) if messages else 2
    return [*messages], at - 2, memory


@pytest.mark.parametrize("framing", ROADS)
@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from((TEXT, BINARY)), payload()), max_size=12), st.integers(0, 300), st.booleans())
def test_all_that_is_whole_is_found(
    framing: ModuleType | None, sent: Sequence[tuple[int, bytes]], missing: int, then_pinged: bool
) -> None:
    parts = [frame(opcode, message) for opcode, message in sent]
    whole, size = [], 0
    data = b"".join(parts) + (frame(PING, b"~" * 100) if then_pinged else b"")
    data = data[: len(data) - min(missing, len(data))]
    for part, (_, message) in zip(parts, sent, strict=True):
        if size + len(part) > len(data):
            break
        whole.append(message)
        size += len(part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "framing", framing)
        messages, at, memory = found(data)
    assert messages == whole
    assert at == size
    assert memory[2 + size :].tobytes() == data[size:] + b"\x81\x00\x81~"


@pytest.mark.parametrize("framing", ROADS)
@pytest.mark.parametrize(
    "other",
    [
        frame(PING, b"a"),
        frame(TEXT, b"a", fin=False),
        frame(TEXT, b"a", reserved=4),
        frame(BINARY, b"a" * 300, reserved=1),
        frame(TEXT, b"a" * 300, masked=True),
        frame(TEXT, b"a" * 70_000),
        frame(3, b"a" * 300),
    ],
)
def test_nothing_is_taken_from_another_frame_on(
    monkeypatch: pytest.MonkeyPatch, framing: ModuleType | None, other: bytes
) -> None:
    monkeypatch.setattr(frames, "framing", framing)
    before = [b"b" * 200] * 3
    data = b"".join(frame(TEXT, message) for message in before)
    messages, at, _ = found(data + other + frame(TEXT, b"c" * 200), most=66_000)
    assert messages == before
    assert at == len(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"\x81", None),
        (b"\x81~\x01", None),
        (b"\x82\x7f" + bytes(7), None),
        (b"\x81\x05", (0x81, 2, 5)),
        (b"\x8a~\x01\x02", (0x8A, 4, 258)),
        (b"\x02\x7f" + (1 << 40).to_bytes(8, "big"), (0x02, 10, 1 << 40)),
        (b"\x81\x85", (0x81, 2, None)),
    ],
)
def test_a_header_is_read_when_all_of_it_is_there(data: bytes, expected: tuple[int, int, int | None] | None) -> None:
    assert frames.header(memoryview(data), 0, len(data)) == expected
