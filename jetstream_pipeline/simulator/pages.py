"""Minutes of the network as a server wants them: ready-made websocket frames, and what is needed to choose
among them.

A page is one minute in one encoding (a wire's plain text messages, or zstd-compressed binary ones), whole or limited
to some repositories. What is kept of them belongs to `page_cache`, what is sent to whom to `connection`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jetstream_pipeline.simulator.compression import Compression
from jetstream_pipeline.simulator.event import SimulatedEvent

_TEXT = 0x81
_BINARY = 0x82
_BYTES_PER_EVENT = 60
"""What an event costs besides its frame."""
_BYTES_PER_PAGE = 1_000


@dataclass(frozen=True)
class Page:
    minute: int
    frames: bytes
    """All frames of the minute, one after the other."""
    offsets: array[int]
    """Where each frame begins, and where the last one ends."""
    times: array[int]
    """When each event was witnessed, whatever time its message shows."""
    seqs: array[int]
    sizes: array[int]
    """Bytes of each message before compression."""
    dids: list[str]
    topics: list[tuple[str, str | None]]
    """The kinds of the page's events with their collections, which only commits have."""
    topic_codes: bytes
    """For each event, an index into `topics`."""
    latest_us: int
    limited_to: frozenset[str] = frozenset()
    """The repositories of which the page holds all events, and no others' events; empty: it is whole."""

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def cost(self) -> int:
        return _BYTES_PER_PAGE + len(self.frames) + _BYTES_PER_EVENT * self.count

    def serves(self, dids: frozenset[str]) -> bool:
        """Whether nothing is missing here for a subscriber to these repositories, or to all if there are none."""
        return not self.limited_to or self.limited_to == dids

    def first_at_or_after(self, time_us: int) -> int:
        """The first event, in stream order, that is not earlier than this."""
        return next((index for index, time in enumerate(self.times) if time >= time_us), self.count)

    def first_of_seq(self, seq: int) -> int:
        return bisect_left(self.seqs, seq)

    def seq_from(self, index: int) -> int:
        """This event's sequence number; past the end of the page, the one after its last."""
        if index < self.count:
            return self.seqs[index]
        return self.seqs[-1] + 1 if self.count else 0

    def first_after(self, time_us: int, start: int) -> int:
        """The first event from `start` on that still lies in the future at this time."""
        if self.latest_us <= time_us:
            return self.count
        return next((index for index in range(start, self.count) if self.times[index] > time_us), self.count)

    def bytes_of(self, indices: Sequence[int]) -> bytes | memoryview:
        """The frames of some events, in order."""
        if isinstance(indices, range):
            return memoryview(self.frames)[self.offsets[indices.start] : self.offsets[indices.stop]]
        frames, offsets = self.frames, self.offsets
        return b"".join([frames[offsets[index] : offsets[index + 1]] for index in indices])

    def payload(self, index: int) -> bytes:
        """One message without its frame's header."""
        frame = self.frames[self.offsets[index] : self.offsets[index + 1]]
        return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def plain_page(
    minute: int, events: Sequence[SimulatedEvent], messages: Sequence[bytes], limited_to: frozenset[str] = frozenset()
) -> Page:
    frames, offsets = _framed(_TEXT, messages)
    topics: dict[tuple[str, str | None], int] = {}
    codes = bytes(topics.setdefault((event.kind, event.collection), len(topics)) for event in events)
    times = array("q", (event.witnessed_us for event in events))
    return Page(
        minute=minute,
        frames=frames,
        offsets=offsets,
        times=times,
        seqs=array("q", (event.seq for event in events)),
        sizes=array("I", map(len, messages)),
        dids=[event.did for event in events],
        topics=list(topics),
        topic_codes=codes,
        latest_us=max(times, default=0),
        limited_to=limited_to,
    )


def compressed_page(page: Page, compression: Compression) -> Page:
    messages = [compression.compress(page.payload(index)) for index in range(page.count)]
    frames, offsets = _framed(_BINARY, messages)
    return replace(page, frames=frames, offsets=offsets)


def _framed(opcode: int, messages: Sequence[bytes]) -> tuple[bytes, array[int]]:
    pieces: list[bytes] = []
    offsets = array("Q", [0])
    end = 0
    for message in messages:
        length = len(message)
        if length < 126:
            header = bytes((opcode, length))
        elif length < 65536:
            header = bytes((opcode, 126)) + length.to_bytes(2, "big")
        else:
            header = bytes((opcode, 127)) + length.to_bytes(8, "big")
        pieces += header, message
        end += len(header) + length
        offsets.append(end)
    return b"".join(pieces), offsets
