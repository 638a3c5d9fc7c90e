"""A sealed segment's file: its header and index, checked against each other and the file, and its blocks' frames.

Nothing of a block is decompressed here; see `block`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import xxhash

from jetstream_pipeline.archive.errors import DamagedSegment, UnsealedSegment
from jetstream_pipeline.archive.frames import Frame
from jetstream_pipeline.archive.index import ENTRY_BYTES, read_entries

HEADER_BYTES = 256
MAGIC = b"jss0"
VERSION = 1
MAX_BLOCKS = 1 << 20
"""A file of the usual size has a thousandth of it."""

_HEADER = struct.Struct("<4sQHIIIQQqqQQQQQ")
_HASHED_FROM = 12
_LENGTH_BYTES = 8
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class _Header:
    magic: bytes
    checksum: int
    version: int
    blocks: int
    events: int
    unique_dids: int
    min_seq: int
    max_seq: int
    min_witnessed_us: int
    max_witnessed_us: int
    footer: int
    did_bloom: int
    block_did_blooms: int
    collection_index: int
    block_index: int


class Segment:
    """An open segment. Any thread may ask it for frames.

    `checksum`: sixteen hexadecimal digits, as listings and ETags have it. The bounds of sequence numbers and witnessed
    times (unix microseconds) outlive compaction: the events lie within them.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Reads the header and the index, and compares the checksum; DamagedSegment, UnsealedSegment."""
        self.path = path
        self._descriptor = descriptor
        header = self._header(os.fstat(descriptor).st_size)
        self.checksum = f"{header.checksum:016x}"
        self.events, self.unique_dids = header.events, header.unique_dids
        self.min_seq, self.max_seq = header.min_seq, header.max_seq
        self.min_witnessed_us, self.max_witnessed_us = header.min_witnessed_us, header.max_witnessed_us
        self.blocks = read_entries(self._read(header.block_index, header.blocks * ENTRY_BYTES))
        self._check_blocks(header)

    def frame(self, number: int) -> bytes:
        """The zstd frame of a block, which `blocks[number]` describes. DamagedSegment where its length is another."""
        entry = self.blocks[number]
        data = self._read(entry.offset, _LENGTH_BYTES + entry.compressed_bytes)
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        if length != entry.compressed_bytes:
            raise DamagedSegment(
                self.name_of(number), f"its length is {length}, and {entry.compressed_bytes} in the index"
            )
        return data[_LENGTH_BYTES:]

    def frames(self, numbers: Iterable[int] | None = None) -> Iterator[Frame]:
        """The frames of all blocks, or of these."""
        for number in range(len(self.blocks)) if numbers is None else numbers:
            yield Frame(self.frame(number), self.name_of(number), self.blocks[number])

    def name_of(self, number: int) -> str:
        """A block as errors name it."""
        return f"block {number} of {self.path}"

    def _header(self, size: int) -> _Header:
        data = self._read(0, min(HEADER_BYTES, size))
        if len(data) == HEADER_BYTES and not any(data):
            raise UnsealedSegment(str(self.path))
        if data[: len(MAGIC)] != MAGIC:
            raise self._damaged(f"it does not begin as a segment does ({data[: len(MAGIC)]!r})")
        if len(data) < HEADER_BYTES:
            raise self._damaged(f"it ends within its header, after {size} bytes")
        header = _Header(*_HEADER.unpack_from(data))
        if header.version != VERSION:
            raise self._damaged(f"version {header.version} of the format is not known, only {VERSION}")
        index_bytes = header.blocks * ENTRY_BYTES
        places = (HEADER_BYTES, header.footer, header.did_bloom, header.block_did_blooms, header.collection_index, size)
        if any(one > other for one, other in pairwise(places)):
            raise self._damaged(f"its parts do not lie one after the other in {size} bytes")
        if (
            header.block_index != header.footer
            or header.blocks > MAX_BLOCKS
            or index_bytes > header.did_bloom - header.footer
        ):
            raise self._damaged(f"an index of {header.blocks} blocks does not fit where it is said to be")
        checksum = self._checksum(data, header.footer, size)
        if checksum != header.checksum:
            raise self._damaged(f"its header and index have the checksum {checksum:016x}, not {header.checksum:016x}")
        return header

    def _checksum(self, header: bytes, footer: int, size: int) -> int:
        digest = xxhash.xxh3_64(header[_HASHED_FROM:])
        for start in range(footer, size, _PIECE_BYTES):
            digest.update(self._read(start, min(_PIECE_BYTES, size - start)))
        return digest.intdigest()

    def _check_blocks(self, header: _Header) -> None:
        end = HEADER_BYTES
        for number, block in enumerate(self.blocks):
            if block.offset != end:
                raise self._damaged(f"block {number} begins at {block.offset} instead of {end}")
            end += _LENGTH_BYTES + block.compressed_bytes
            seqs = (header.min_seq, block.min_seq, block.max_seq, header.max_seq)
            times = (header.min_witnessed_us, block.min_witnessed_us, block.max_witnessed_us, header.max_witnessed_us)
            if block.events and not all(one <= other for bounds in (seqs, times) for one, other in pairwise(bounds)):
                raise self._damaged(f"the bounds of block {number} are no bounds, or not within the segment's")
        if end != header.footer:
            raise self._damaged(f"its blocks end at {end} instead of {header.footer}")
        events = sum(block.events for block in self.blocks)
        if events != header.events:
            raise self._damaged(f"its blocks hold {events} events instead of {header.events}")

    def _read(self, offset: int, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = os.pread(self._descriptor, size, offset)
            if not piece:
                raise self._damaged(f"it ends at {offset}, {size} bytes too early")
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return b"".join(pieces)

    def _damaged(self, what: str) -> DamagedSegment:
        return DamagedSegment(str(self.path), what)


@contextmanager
def open_segment(path: Path) -> Iterator[Segment]:
    """A sealed segment's file, closed at the end. DamagedSegment where it is none or not whole, UnsealedSegment."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Segment(path, descriptor)
    finally:
        os.close(descriptor)
