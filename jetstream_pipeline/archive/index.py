"""What a segment's index says of each block. Reading the file is `segment`'s."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from jetstream_pipeline.archive.columns import Columns
from jetstream_pipeline.archive.errors import DamagedSegment

_ENTRY = struct.Struct("<QIIIQQqq")
ENTRY_BYTES = _ENTRY.size


@dataclass(frozen=True)
class BlockEntry:
    """One block: where it begins in its file, the sizes of its zstd frame and of its content, how many events it holds,
    and bounds of their sequence numbers and witnessed times (unix microseconds).

    Bounds outlive compaction: the events lie within them, and may not reach them.
    """

    offset: int
    compressed_bytes: int
    content_bytes: int
    events: int
    min_seq: int
    max_seq: int
    min_witnessed_us: int
    max_witnessed_us: int

    def check(self, columns: Columns, where: str) -> None:
        """DamagedSegment where a block holds other events than this says."""
        if columns.rows != self.events:
            raise DamagedSegment(where, f"it holds {columns.rows} events instead of {self.events}")
        for name, least, most in (
            ("seq", self.min_seq, self.max_seq),
            ("witnessed_us", self.min_witnessed_us, self.max_witnessed_us),
        ):
            values = columns.numbers[name]
            if len(values) and not least <= int(values.min()) <= int(values.max()) <= most:
                raise DamagedSegment(where, f"its {name} lie outside of {least} to {most}")


def read_entries(index: bytes) -> tuple[BlockEntry, ...]:
    """A block index, `ENTRY_BYTES` a block."""
    return tuple(BlockEntry(*values) for values in _ENTRY.iter_unpack(index))
