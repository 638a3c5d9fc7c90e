"""Blocks in order, decoded ahead of whoever takes them.

In one thread: most of what a block costs is done under Python's lock, so that a second one is only in the way, while
whoever takes the blocks compresses and writes them mostly without it. Processes would have to copy the events from one
to the other, which costs as much as they gain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from jetstream_pipeline.archive.block import Block, Wanted, decode_block
from jetstream_pipeline.archive.frames import Frame
from jetstream_pipeline.events.wires import MAX_TIME_US

_AHEAD_BYTES = 64 * 1024 * 1024
"""The content of the blocks that wait or are under way, unless one alone has more."""
_EMPTY_BYTES = 64 * 1024
"""A block without events takes some memory too."""


def decoded_blocks(
    frames: Iterable[Frame], host: str, *, wanted: Wanted | None = None, latest_us: int = MAX_TIME_US
) -> Generator[Block, None, None]:
    """Blocks as `decode_block` makes them, in the order of their frames, which are taken some way ahead.

    DamagedSegment at the block that is damaged, after those before it. What goes wrong while frames are taken is raised
    at once.
    """
    decode = partial(_decoded, host, wanted, latest_us)
    under_way: deque[tuple[Future[Block], int]] = deque()
    size = 0
    pool = ThreadPoolExecutor(1, thread_name_prefix="blocks")
    try:
        for frame in frames:
            taken = _EMPTY_BYTES + min(frame.content_bytes, _AHEAD_BYTES)
            while under_way and size + taken > _AHEAD_BYTES:
                block, given = under_way.popleft()
                yield block.result()
                size -= given
            under_way.append((pool.submit(decode, frame), taken))
            size += taken
        while under_way:
            yield under_way.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded(host: str, wanted: Wanted | None, latest_us: int, frame: Frame) -> Block:
    return decode_block(frame.data, host, frame.where, entry=frame.entry, wanted=wanted, latest_us=latest_us)
