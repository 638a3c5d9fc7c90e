"""What a block's zstd frame holds: decompressed within bounds, its checksum compared. Nothing of the content here."""

from __future__ import annotations

from dataclasses import dataclass

import zstandard

from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.archive.index import BlockEntry

MAX_CONTENT_BYTES = 256 * 1024 * 1024
"""A larger block is taken for a mistake: one of a server's default size has some megabytes."""

FRAME_MAGIC = zstandard.FRAME_HEADER
"""What every zstd frame begins with."""

_MAX_WINDOW_BYTES = 128 * 1024 * 1024
_USUAL_RATIO = 8
_PIECE_BYTES = 1024
"""Of a frame that does not say what it holds. As much as 32 MB can come of a piece at once."""


@dataclass(frozen=True)
class Frame:
    """A block's zstd frame, how errors name the block, and what its index says of it, where there is one."""

    data: bytes
    where: str
    entry: BlockEntry | None = None

    @property
    def content_bytes(self) -> int:
        """The size of its content, as it is said to be; a guess where nothing says so."""
        if self.entry:
            return self.entry.content_bytes
        try:
            size: int = zstandard.frame_content_size(self.data)
        except zstandard.ZstdError:
            return 0
        return size if size >= 0 else len(self.data) * _USUAL_RATIO


def decompressed(frame: bytes, where: str, content_bytes: int | None = None) -> bytes:
    """The content of one whole zstd frame with a checksum; of `content_bytes` bytes, where that is known beforehand.

    Raises DamagedSegment for anything else, and never takes much more memory than the content may have.
    """
    try:
        described = zstandard.get_frame_parameters(frame)
        if not described.has_checksum:
            raise DamagedSegment(where, "its zstd frame carries no checksum")
        limit = MAX_CONTENT_BYTES if content_bytes is None else min(content_bytes, MAX_CONTENT_BYTES)
        if described.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            content = _in_pieces(frame, where, limit)
        elif described.content_size > limit:
            raise DamagedSegment(where, f"it has {described.content_size} bytes of content instead of {limit} at most")
        else:
            content = _decompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedSegment(where, f"its zstd frame is broken ({error})") from None
    if content_bytes is not None and len(content) != content_bytes:
        raise DamagedSegment(where, f"it has {len(content)} bytes of content instead of {content_bytes}")
    return content


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)


def _in_pieces(frame: bytes, where: str, limit: int) -> bytes:
    stream = _decompressor().decompressobj()
    pieces: list[bytes] = []
    size = 0
    for start in range(0, len(frame), _PIECE_BYTES):
        if stream.eof:
            raise DamagedSegment(where, "something follows its zstd frame")
        pieces.append(stream.decompress(frame[start : start + _PIECE_BYTES]))
        size += len(pieces[-1])
        if size > limit:
            raise DamagedSegment(where, f"it has more than {limit} bytes of content")
    if not stream.eof or stream.unused_data:
        raise DamagedSegment(where, "its zstd frame does not end where the block ends")
    return b"".join(pieces)
