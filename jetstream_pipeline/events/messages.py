"""Messages as they lie in memory, one after the other: what a transport hands over and `decode` reads.

No message is an object of its own until somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from jetstream_pipeline.compiled import cutter

AT_ONCE = 8_192
"""Messages that are taken, and decoded, without a pause: some milliseconds."""

BLANK = ord("\n")
"""What lies between messages."""


class Messages(Sequence[bytes]):
    """Messages in one stretch of memory, with nothing but line breaks, at least one, between two of them."""

    __slots__ = ("ends", "memory", "starts")

    def __init__(self, memory: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        """`memory`: octets; of these message by message the first, and the one after the last."""
        self.memory = memory
        self.starts = starts
        self.ends = ends

    @classmethod
    def of(cls, messages: Iterable[bytes], lengths: np.ndarray | None = None) -> Messages:
        """`lengths`: theirs, where they are known already."""
        if isinstance(messages, Messages):
            return messages
        messages = list(messages)
        if lengths is None:
            lengths = np.fromiter(map(len, messages), np.int64, len(messages))
        ends = np.cumsum(lengths + 1) - 1
        return cls(_together(messages, ends), ends - lengths, ends)

    @classmethod
    def joined(cls, parts: Sequence[Messages]) -> Messages:
        """Parts as one, where each lies behind the one before it: see `goes_on`."""
        if len(parts) == 1:
            return parts[0]
        starts, ends = (np.concatenate([getattr(part, name) for part in parts]) for name in ("starts", "ends"))
        return cls(parts[0].memory, starts, ends)

    def goes_on(self, more: Messages) -> bool:
        """Whether `more` lies in the same memory, behind these."""
        return self.memory is more.memory

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.starts

    @property
    def size(self) -> int:
        """Bytes of all messages."""
        return int(self.ends.sum() - self.starts.sum())

    @property
    def text(self) -> np.ndarray:
        """The octets from the first message to the last, and what lies between them."""
        return self.memory[self.starts[0] : self.ends[-1]]

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> Messages: ...

    def __getitem__(self, place: int | slice) -> bytes | Messages:
        if isinstance(place, slice):
            return Messages(self.memory, self.starts[place], self.ends[place])
        return self.memory[self.starts[place] : self.ends[place]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        view = self.memory.data
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield bytes(view[start:end])


def _together(messages: list[bytes], ends: np.ndarray) -> np.ndarray:
    if not (cutter and messages):
        return np.frombuffer(b"\n".join(messages), np.uint8)
    memory = np.empty(ends[-1], np.uint8)
    cutter.line_up(messages, ends, memory, BLANK)
    return memory
