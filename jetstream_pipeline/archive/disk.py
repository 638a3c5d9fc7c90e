"""Files that are being downloaded: locked against each other, gone on with, there whole or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from jetstream_pipeline.storage.files import fsync_path, is_still, told

_T = TypeVar("_T")

LOOK_SEC = 0.1
"""How often is looked whether somebody else is done with a file."""


class Partial:
    """The beginning of a file, held by one download at a time. What was written is there for the next one."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def write(self, content: bytes) -> None:
        with told(self.path, "write"):
            rest = memoryview(content)
            while rest:
                written = os.pwrite(self._descriptor, rest, self.size)
                self.size += written
                rest = rest[written:]

    def restart(self) -> None:
        """Forget what is there."""
        with told(self.path, "write"):
            os.ftruncate(self._descriptor, 0)
        self.size = 0

    def remove(self) -> None:
        with told(self.path, "delete"):
            self.path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Make it durable, and let it be `target`."""
        with told(target, "write"):
            os.fsync(self._descriptor)
            os.replace(self.path, target)
            fsync_path(target.parent)


@asynccontextmanager
async def claimed(path: Path, target: Path) -> AsyncIterator[Partial | None]:
    """The beginning of `target` at `path`, against all other downloads; None once `target` is there.

    Waits while another download, of this process or of another one, is at it.
    """
    while not target.exists():
        with _opened(path) as descriptor:
            if not lock(descriptor, fcntl.LOCK_EX):
                await asyncio.sleep(LOOK_SEC)
            elif is_still(path, descriptor):
                partial = Partial(path, descriptor)
                try:
                    if not target.exists():
                        yield partial
                        return
                finally:
                    if not partial.size:
                        partial.remove()
    yield None


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with told(path, "create"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock(descriptor: int, how: int) -> bool:
    """Whether the lock, LOCK_EX or LOCK_SH, could be had at once."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def in_thread(work: Callable[..., _T], *arguments: object) -> _T:
    """Do it without keeping others waiting; whoever is cancelled meanwhile leaves when the thread is done."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
