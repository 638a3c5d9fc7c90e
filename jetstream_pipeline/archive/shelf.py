"""The folder of downloaded files, which several processes share: which lies where, who needs it, what goes first.

FOLDER/seg_0000000003-CHECKSUM.jss             a whole segment
FOLDER/seg_0000000003-CHECKSUM.blocks/000012   a block's zstd frame
FOLDER/.seg_0000000003.jss-CHECKSUM.part       the beginning of a segment

All of it can be fetched again, and may be deleted while no program uses it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.archive.disk import LOOK_SEC, lock
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.storage.files import is_still, told

_FORGOTTEN_SEC = 3 * 86_400
"""Nobody goes on with what has been lying there for so long."""


class Held:
    """A file or folder that no process deletes until it is let go."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    def let_go(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                # What was used last is deleted last.
                os.utime(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True)
class Shelf:
    folder: Path

    def place(self, unit: Unit) -> Path:
        """Where a unit's file lies, or the folder of its blocks."""
        kind = "jss" if unit.blocks is None else "blocks"
        return self.folder / f"{unit.name.removesuffix('.jss')}-{unit.checksum}.{kind}"

    async def hold(self, path: Path) -> Held | None:
        """What is there, held; None where there is nothing."""
        while True:
            with told(path, "read"):
                try:
                    descriptor = os.open(path, os.O_RDONLY)
                except FileNotFoundError:
                    return None
            if lock(descriptor, fcntl.LOCK_SH) and is_still(path, descriptor):
                return Held(path, descriptor)
            # Somebody has just put it there, or deletes it.
            os.close(descriptor)
            await asyncio.sleep(LOOK_SEC)

    async def hold_folder(self, path: Path) -> Held:
        """A folder, made where it is missing, held."""
        while True:
            with told(path, "create"):
                path.mkdir(parents=True, exist_ok=True)
            if held := await self.hold(path):
                return held

    def sweep(self, keep_bytes: int, needed: Container[str]) -> int:
        """Delete what was used longest ago until the rest has at most `keep_bytes`; how many bytes that rest has.

        What is held by anybody stays, and so does what is `needed`, by its name.
        """
        kept = seen = 0
        for _, path in sorted(self._entries(needed), reverse=True):
            seen += size(path)
            if seen <= keep_bytes:
                kept = seen
            else:
                remove(path)
        return kept

    def _entries(self, needed: Container[str]) -> Iterator[tuple[float, Path]]:
        """When and where; what nobody will go on with is deleted on the way."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                with suppress(OSError):
                    used_at = path.stat().st_mtime
                    if not path.name.startswith("."):
                        if path.name not in needed:
                            yield used_at, path
                    elif time.time() - used_at > _FORGOTTEN_SEC:
                        remove(path)


def size(path: Path) -> int:
    """Bytes in a file or a folder of files; 0 for what is gone."""
    with suppress(OSError):
        if path.is_dir():
            return sum(size(file) for file in path.iterdir())
        return path.stat().st_size
    return 0


def remove(path: Path) -> None:
    """Delete a file or folder that nobody holds."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if lock(descriptor, fcntl.LOCK_EX) and is_still(path, descriptor):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        finally:
            os.close(descriptor)
