"""Carrying out a plan: its units in order, each as soon as it is durable, while the next ones are being downloaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from jetstream_pipeline.archive.client import Archive, Verify, taken_as_it_is
from jetstream_pipeline.archive.disk import in_thread
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.archive.shelf import Held, Shelf, remove, size
from jetstream_pipeline.storage.files import replacing

MAX_BYTES = 2 * 1024**3
KEEP_BYTES = 2 * 1024**3
_MAX_AHEAD = 64
"""Units; each one that is on disk takes a file descriptor."""
_USUAL_SEGMENT_BYTES = 280 * 1024**2
_USUAL_BLOCK_BYTES = 1024**2
"""What is reckoned with before the first one has come."""


class Fetched:
    """A unit whose bytes are on disk, and stay there until it is released or discarded; `with` releases it."""

    def __init__(self, unit: Unit, held: Held, ended: Callable[[], None]) -> None:
        self.unit = unit
        self._held = held
        self._ended: Callable[[], None] | None = ended

    @property
    def segment(self) -> Path | None:
        """The whole segment's file; None where blocks were planned."""
        return self._held.path if self.unit.blocks is None else None

    @property
    def blocks(self) -> Mapping[int, Path]:
        """Files with the zstd frames of the planned blocks, by number, in order; empty for a whole segment."""
        return {number: _block_path(self._held.path, number) for number in self.unit.numbers}

    def release(self) -> None:
        """The bytes are needed no more."""
        self._end(self._held.let_go)

    def discard(self) -> None:
        """The bytes are not what they should be: the next one who wants them downloads them again."""
        self._end(self._give_up)

    def _give_up(self) -> None:
        self._held.let_go()
        remove(self._held.path)

    def __enter__(self) -> Fetched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _end(self, how: Callable[[], None]) -> None:
        if self._ended is not None:
            how()
            self._ended()
            self._ended = None


async def fetched(
    archive: Archive,
    units: Sequence[Unit],
    folder: Path,
    *,
    at_once: int = 4,
    max_bytes: int = MAX_BYTES,
    keep_bytes: int = KEEP_BYTES,
    sizes: Mapping[str, int] | None = None,
    verify: Verify = taken_as_it_is,
) -> AsyncGenerator[Fetched, None]:
    """The units in their order, each once it is durable in `folder`, which other processes may use too.

    `at_once`: downloads at the same time. `max_bytes`: what may lie on disk that was not released yet, with what is
    under way; the unit that is waited for comes in any case. `sizes`: the segments' sizes in bytes by checksum, as far
    as they are known. `keep_bytes`: how much of what was released, in this run or before, stays in the folder for
    others; what was used longest ago goes first. `verify`: called with each whole segment that was downloaded.

    Whoever does not take all of it closes the iterator (`contextlib.aclosing`). What one unit ends with, as
    StalePlan, is raised in its turn, after all units before it.
    """
    downloads = _Downloads(archive, units, Shelf(folder), max_bytes, keep_bytes, sizes or {}, verify)
    workers = [asyncio.create_task(downloads.work()) for _ in range(at_once)]
    try:
        for number in range(len(units)):
            yield await downloads.wait(number)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        downloads.close()


class _Job:
    """A unit on its way to the disk."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.missing = 1 if unit.blocks is None else sum(map(len, unit.blocks))
        self.bytes = 0
        self.held: Held | None = None
        self.error: BaseException | None = None
        self.ended = asyncio.Event()
        self.opening = asyncio.Lock()


class _Room:
    """The bytes that may lie on disk, reckoned before they come and known afterwards."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self.changed = asyncio.Event()

    def has(self, size: int) -> bool:
        return size <= self._left

    def take(self, size: int) -> None:
        self._left -= size

    def give(self, size: int) -> None:
        self._left += size
        self.changed.set()


class _Downloads:
    def __init__(
        self,
        archive: Archive,
        units: Sequence[Unit],
        shelf: Shelf,
        max_bytes: int,
        keep_bytes: int,
        sizes: Mapping[str, int],
        verify: Verify,
    ) -> None:
        self._archive = archive
        self._shelf = shelf
        self._keep_bytes = keep_bytes
        self._kept = keep_bytes
        self._sizes = sizes
        self._verify = verify
        self._jobs = [_Job(unit) for unit in units]
        self._needed = {shelf.place(unit).name for unit in units}
        self._pieces = self._in_order()
        self._taking = asyncio.Lock()
        self._room = _Room(max_bytes)
        self._awaited = 0
        self._largest_segment = 0
        self._largest_block = 0
        self._failed = False

    async def wait(self, number: int) -> Fetched:
        """A unit, once it is there. What it ends with otherwise is raised."""
        job = self._jobs[number]
        self._awaited = number
        self._room.changed.set()
        await job.ended.wait()
        if job.error is not None:
            raise job.error
        assert job.held is not None
        held, job.held = job.held, None
        return Fetched(job.unit, held, partial(self._released, job))

    def close(self) -> None:
        """Let go of what nobody took."""
        for job in self._jobs:
            if job.held is not None:
                job.held.let_go()
                job.held = None

    def _released(self, job: _Job) -> None:
        self._room.give(job.bytes)
        self._needed.discard(self._shelf.place(job.unit).name)
        self._kept += job.bytes
        if self._kept > self._keep_bytes:
            # Somewhat more room than is needed now: a look at the whole folder is not for every unit.
            self._kept = self._shelf.sweep(self._keep_bytes - self._keep_bytes // 8, self._needed)

    async def work(self) -> None:
        """Download one piece after the other, in order, each once there is room for it."""
        while True:
            async with self._taking:
                piece = None if self._failed else next(self._pieces, None)
                if piece is None:
                    return
                number, block = piece
                reckoned = await self._take_room(number)
            job = self._jobs[number]
            try:
                await self._bring(job, block, reckoned)
            except Exception as error:
                self._failed = True
                job.error = job.error or error
                job.ended.set()

    def _in_order(self) -> Iterator[tuple[int, int | None]]:
        """The units' numbers in the plan, each with its blocks one by one, or with None for the whole segment."""
        for number, job in enumerate(self._jobs):
            if job.unit.blocks is None:
                yield number, None
            for block in job.unit.numbers:
                yield number, block

    async def _take_room(self, number: int) -> int:
        while True:
            reckoned = self._reckoned(self._jobs[number].unit)
            ahead = number - self._awaited
            if ahead <= 0 or (ahead < _MAX_AHEAD and self._room.has(reckoned)):
                self._room.take(reckoned)
                return reckoned
            self._room.changed.clear()
            await self._room.changed.wait()

    def _reckoned(self, unit: Unit) -> int:
        if unit.blocks is not None:
            return self._largest_block or _USUAL_BLOCK_BYTES
        return self._sizes.get(unit.checksum) or self._largest_segment or _USUAL_SEGMENT_BYTES

    async def _bring(self, job: _Job, block: int | None, reckoned: int) -> None:
        came = 0
        try:
            came = await (self._segment(job) if block is None else self._block(job, block))
        finally:
            self._room.give(reckoned - came)
        job.bytes += came
        job.missing -= 1
        if not job.missing:
            job.ended.set()

    async def _segment(self, job: _Job) -> int:
        path = self._shelf.place(job.unit)
        while job.held is None:
            job.held = await self._shelf.hold(path)
            if job.held is None:
                await self._archive.fetch_segment(job.unit, path, verify=self._verify)
        came = size(path)
        self._largest_segment = max(self._largest_segment, came)
        return came

    async def _block(self, job: _Job, number: int) -> int:
        folder = self._shelf.place(job.unit)
        async with job.opening:
            if job.held is None:
                job.held = await self._shelf.hold_folder(folder)
        path = _block_path(folder, number)
        if not path.exists():
            content = await self._archive.block(job.unit, number)
            await in_thread(_put, path, content)
        came = size(path)
        self._largest_block = max(self._largest_block, came)
        return came


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}"


def _put(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
