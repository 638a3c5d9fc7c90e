"""Sealed segments of an archive: blocks, and in front of and behind them what is to be known without reading them.

Which events lie in which segment, and which segments exist, belongs to `archive`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import xxhash
import zstandard

from jetstream_pipeline.simulator import blooms
from jetstream_pipeline.simulator.blocks import Block, Bounds

_MAGIC = b"jss0"
_VERSION = 1
_HEADER_BYTES = 256
_HEADER = struct.Struct("<HIIIQQqqQQQQQ")
_CHECKSUM = struct.Struct("<Q")
_FRAME_LENGTH = struct.Struct("<Q")
_BLOCK_ENTRY = struct.Struct("<QIIIQQqq")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAME_DIGITS = 10


@dataclass(frozen=True)
class BlockSummary:
    offset: int
    """Where its frame begins in the file, behind the frame's length."""
    length: int
    count: int
    bounds: Bounds
    bloom: bytes
    topics: frozenset[str]
    """Collections, and `$identity` and `$account`."""


@dataclass(frozen=True)
class Summary:
    """A segment without its content."""

    index: int
    checksum: str
    """16 hexadecimal digits."""
    size: int
    """Bytes of the file."""
    count: int
    bounds: Bounds
    bloom: bytes
    blocks: tuple[BlockSummary, ...]

    @property
    def name(self) -> str:
        return segment_name(self.index)


@dataclass(frozen=True)
class Segment:
    summary: Summary
    data: bytes


def segment_name(index: int) -> str:
    """`seg_000000002a.jss`: ten digits in base 36."""
    digits = ""
    while index:
        index, digit = divmod(index, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"seg_{digits.rjust(_NAME_DIGITS, '0')}.jss"


def segment_index(name: str) -> int | None:
    """None if this is no segment's name."""
    digits = name.removeprefix("seg_").removesuffix(".jss")
    if len(digits) != _NAME_DIGITS or not set(digits) <= set(_DIGITS):
        return None
    index = int(digits, len(_DIGITS))
    return index if segment_name(index) == name else None


def sealed(index: int, bounds: Bounds, blocks: Sequence[Block]) -> Segment:
    """The segment that consists of these blocks."""
    pieces = [_FRAME_LENGTH.pack(len(block.frame)) + block.frame for block in blocks]
    begins = list(accumulate(map(len, pieces), initial=_HEADER_BYTES))
    all_dids = frozenset[str]().union(*(block.dids for block in blocks))
    bloom, block_blooms = _blooms(all_dids, blocks)
    sections = [
        b"".join(_block_entry(begin, block) for begin, block in zip(begins[:-1], blocks, strict=True)),
        bloom,
        blooms.packed(block_blooms),
        _collection_index(blocks),
    ]
    places = list(accumulate(map(len, sections), initial=begins[-1]))
    count = sum(block.count for block in blocks)
    described = _HEADER.pack(
        _VERSION,
        len(blocks),
        count,
        len(all_dids),
        bounds.min_seq,
        bounds.max_seq,
        bounds.min_us,
        bounds.max_us,
        begins[-1],
        *places[1:4],
        places[0],
    ).ljust(_HEADER_BYTES - len(_MAGIC) - _CHECKSUM.size, b"\0")
    footer = b"".join(sections)
    checksum = xxhash.xxh3_64_intdigest(described + footer)
    data = b"".join([_MAGIC, _CHECKSUM.pack(checksum), described, *pieces, footer])
    summaries = tuple(
        _summary(begin, block, own) for begin, block, own in zip(begins[:-1], blocks, block_blooms, strict=True)
    )
    return Segment(Summary(index, f"{checksum:016x}", len(data), count, bounds, bloom, summaries), data)


def _summary(begin: int, block: Block, bloom: bytes) -> BlockSummary:
    offset = begin + _FRAME_LENGTH.size
    return BlockSummary(offset, len(block.frame), block.count, block.bounds, bloom, frozenset(block.topics))


def _block_entry(begin: int, block: Block) -> bytes:
    bounds = block.bounds
    return _BLOCK_ENTRY.pack(
        begin, len(block.frame), block.size, block.count, bounds.min_seq, bounds.max_seq, bounds.min_us, bounds.max_us
    )


def _blooms(dids: frozenset[str], blocks: Sequence[Block]) -> tuple[bytes, list[bytes]]:
    """The segment's filter, and one for each block; these are equally long, so that they are found without an index."""
    known = dict(zip(dids, blooms.hashes(dids), strict=True))
    capacity = max((len(block.dids) for block in blocks), default=1) or 1
    own = [np.array([known[did] for did in block.dids], np.uint64) for block in blocks]
    whole = blooms.bloom(np.array(list(known.values()), np.uint64), max(1, len(dids)))
    return whole, [blooms.bloom(members, capacity) for members in own]


def _collection_index(blocks: Sequence[Block]) -> bytes:
    """All collections with their numbers of events, and for each block a bit mask of those that it holds."""
    totals = sum((block.topics for block in blocks), Counter[str]())
    mask_bytes = (len(totals) + 7) // 8
    numbers = {topic: number for number, topic in enumerate(totals)}
    names = b"".join(
        # What is no collection stands there to be found, and is not counted.
        struct.pack("<BI", len(topic), 0 if topic.startswith("$") else total) + topic.encode()
        for topic, total in totals.items()
    )
    masks = b"".join(
        sum(1 << numbers[topic] for topic in block.topics).to_bytes(mask_bytes, "little") for block in blocks
    )
    body = names + masks
    head = struct.pack("<IIII", len(totals), len(blocks), mask_bytes, len(body))
    return head + zstandard.ZstdCompressor(write_checksum=True).compress(body)
