"""A sealed segment is read as its header and index say, and refused where these do not agree with the file."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.archive.block import decode_block
from jetstream_pipeline.archive.errors import ArchiveError, DamagedSegment, UnsealedSegment
from jetstream_pipeline.archive.segment import MAX_BLOCKS, Segment, open_segment
from jetstream_pipeline_tests.archive.segments import ENTRY_FIELDS, HEADER_FIELDS, START_US, Row, rows, sealed

ROWS = rows(12)
BLOCKS = [ROWS[:5], [], ROWS[5:12]]
GOOD = sealed(BLOCKS)


@contextmanager
def opened(data: bytes, folder: Path) -> Iterator[Segment]:
    path = folder / "seg_0000000000.jss"
    path.write_bytes(data)
    with open_segment(path) as segment:
        yield segment


def read(data: bytes, folder: Path) -> list[int]:
    """The sequence numbers of everything in it."""
    with opened(data, folder) as segment:
        blocks = [decode_block(frame.data, "host", frame.where, entry=frame.entry) for frame in segment.frames()]
    return [seq for block in blocks for seq in block.events["seq"].to_pylist()]


def test_a_segment_tells_its_facts_and_gives_its_blocks(tmp_path: Path) -> None:
    with opened(GOOD, tmp_path) as segment:
        assert segment.checksum == GOOD[4:12][::-1].hex()
        assert (segment.events, segment.unique_dids, segment.min_seq, segment.max_seq) == (12, 1, 1, 12)
        assert (segment.min_witnessed_us, segment.max_witnessed_us) == (START_US, START_US + 11)
        assert [entry.events for entry in segment.blocks] == [5, 0, 7]
        assert segment.blocks[0].offset == 256
        assert [frame.where for frame in segment.frames([2, 0])] == [segment.name_of(2), segment.name_of(0)]
    assert read(GOOD, tmp_path) == list(range(1, 13))


def test_a_segment_may_be_empty(tmp_path: Path) -> None:
    assert read(sealed([]), tmp_path) == []


def test_the_file_is_closed_at_the_end_and_after_a_refusal(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    read(GOOD, tmp_path)
    with pytest.raises(DamagedSegment), opened(GOOD[:-1], tmp_path):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_bounds_may_be_wider_than_the_events_as_compaction_leaves_them(tmp_path: Path) -> None:
    kept = [ROWS[1:4], [], ROWS[6:8]]
    wide = {0: {"min_seq": 1, "max_seq": 5}, 1: {"min_seq": 6, "max_seq": 9}, 2: {"min_seq": 6, "max_seq": 12}}
    assert read(sealed(kept, {"min_seq": 1, "max_seq": 12}, wide), tmp_path) == [2, 3, 4, 7, 8]


def test_an_unsealed_segment_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsealedSegment, match=r"seg_0000000000\.jss is not sealed"), opened(bytes(5000), tmp_path):
        pass


def test_what_is_missing_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_segment(tmp_path / "none"):
        pass


def damage(data: bytes, folder: Path) -> str:
    """What is found to be wrong when everything is read."""
    with pytest.raises(DamagedSegment) as raised:
        read(data, folder)
    assert "seg_0000000000.jss is damaged: " in str(raised.value)
    return str(raised.value)


def test_a_file_that_is_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    with opened(GOOD, tmp_path) as segment:
        places = {place for block in segment.blocks for place in (block.offset, block.offset + 8)}
        end = segment.blocks[-1].offset + 8 + segment.blocks[-1].compressed_bytes
    edges = {0, 4, 12, 14, 98, 255, 256, *places, end, end + 52, end + 104, end + 156, len(GOOD) - 11, len(GOOD)}
    for size in sorted({edge + by for edge in edges for by in (-1, 0, 1)}):
        if 0 <= size < len(GOOD):
            damage(GOOD[:size], tmp_path)
    damage(GOOD + b"\0", tmp_path)


@pytest.mark.parametrize("place", [*range(0, 98, 3), 97, 98, 255])
def test_a_bit_of_the_header_is_not_overlooked(place: int, tmp_path: Path) -> None:
    damage(GOOD[:place] + bytes([GOOD[place] ^ 4]) + GOOD[place + 1 :], tmp_path)


def test_a_bit_of_the_footer_is_not_overlooked(tmp_path: Path) -> None:
    footer = len(GOOD) - 3 * 52 - len(b"bloomcollections")
    for place in range(footer, len(GOOD), 5):
        assert "checksum" in damage(GOOD[:place] + bytes([GOOD[place] ^ 4]) + GOOD[place + 1 :], tmp_path)


_LARGEST = {"version": 2**16, "blocks": 2**32, "events": 2**32, "unique_dids": 2**32, "offset": 2**64}
_OF_CHECKED = [name for name in HEADER_FIELDS if name != "unique_dids"]
"""How many DIDs there are is said for people."""


def values(name: str, right: int) -> set[int]:
    signed = "witnessed" in name
    wide = 2**63 if signed else _LARGEST.get(name, 2**32 if name in ENTRY_FIELDS[1:4] else 2**64)
    return {value for value in (0, right - 1, right + 1, right + 256, wide - 1) if 0 <= value < wide} - {right}


def right_fields(data: bytes) -> tuple[dict[str, int], list[dict[str, int]]]:
    header = dict(zip(HEADER_FIELDS, struct.unpack_from("<HIIIQQqqQQQQQ", data, 12), strict=True))
    entries = struct.iter_unpack("<QIIIQQqq", data[header["footer"] : header["footer"] + 52 * header["blocks"]])
    return header, [dict(zip(ENTRY_FIELDS, entry, strict=True)) for entry in entries]


HEADER, ENTRIES = right_fields(GOOD)


@pytest.mark.parametrize("name", _OF_CHECKED)
def test_a_header_that_is_wrong_under_a_right_checksum_is_damage(name: str, tmp_path: Path) -> None:
    harmless = {
        "min_seq": range(1),
        "max_seq": range(13, 2**64),
        "min_witnessed_us": range(START_US),
        "max_witnessed_us": range(START_US + 12, 2**63),
        "did_bloom": range(HEADER["did_bloom"], HEADER["block_did_blooms"] + 1),
        "block_did_blooms": range(HEADER["did_bloom"], HEADER["collection_index"] + 1),
        "collection_index": range(HEADER["block_did_blooms"], len(GOOD) + 1),
    }
    for value in values(name, HEADER[name]):
        data = sealed(BLOCKS, {name: value})
        if value in harmless.get(name, ()):
            assert read(data, tmp_path) == list(range(1, 13))
        else:
            damage(data, tmp_path)


@pytest.mark.parametrize("name", ENTRY_FIELDS)
@pytest.mark.parametrize("number", [0, 2])
def test_an_index_that_is_wrong_under_a_right_checksum_is_damage(name: str, number: int, tmp_path: Path) -> None:
    right = ENTRIES[number][name]
    wider = {
        **{bound: range(HEADER[bound], right) for bound in ("min_seq", "min_witnessed_us")},
        **{bound: range(right, HEADER[bound] + 1) for bound in ("max_seq", "max_witnessed_us")},
    }
    for value in values(name, right):
        data = sealed(BLOCKS, entries={number: {name: value}})
        if value in wider.get(name, ()):
            assert read(data, tmp_path) == list(range(1, 13))
        else:
            damage(data, tmp_path)


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1])
def test_the_length_before_a_frame_is_the_one_in_the_index(length: int, tmp_path: Path) -> None:
    assert "block 2 of" in damage(sealed(BLOCKS, lengths={2: length}), tmp_path)


def test_an_index_of_too_many_blocks_is_not_read(tmp_path: Path) -> None:
    assert "does not fit" in damage(sealed(BLOCKS, {"blocks": MAX_BLOCKS + 1}), tmp_path)


def test_a_damaged_block_is_named_and_the_others_can_be_read(tmp_path: Path) -> None:
    place = ENTRIES[2]["offset"] + 8 + ENTRIES[2]["compressed_bytes"] - 1
    data = GOOD[:place] + bytes([GOOD[place] ^ 1]) + GOOD[place + 1 :]
    with opened(data, tmp_path) as segment:
        assert decode_block(segment.frame(0), "host", "0", entry=segment.blocks[0]).events.num_rows == 5
        with pytest.raises(DamagedSegment, match=r"^block 2 of .* is damaged"):
            decode_block(segment.frame(2), "host", segment.name_of(2), entry=segment.blocks[2])


@given(st.data())
@settings(max_examples=200)
def test_bytes_changed_anywhere_are_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    try:
        seqs = read(bytes(changed), tmp_path_factory.getbasetemp())
    except ArchiveError:
        return
    assert seqs == list(range(1, 13))


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    for file in (data, b"jss0" + data, GOOD[:256] + data):
        with pytest.raises(ArchiveError):
            read(file, tmp_path_factory.getbasetemp())


def test_rows_beyond_the_bounds_of_their_block_are_damage(tmp_path: Path) -> None:
    late = [replace(row, witnessed_us=row.witnessed_us + 5) for row in ROWS]
    assert "lie outside" in damage(sealed([late], entries={0: {"max_witnessed_us": START_US + 12}}), tmp_path)
    assert read(sealed([[Row(seq=4), Row(seq=2)]]), tmp_path) == [4, 2]
