"""What was read of files, kept for as long as each file is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import Version, version

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """Reads each file once, and again when it was replaced."""

    def __init__(self, read: Callable[[Path], _T]) -> None:
        self._read = read
        self._kept: dict[Path, tuple[Version, _T | None]] = {}

    def of(self, paths: Iterable[Path]) -> Iterator[tuple[Path, _T | None]]:
        """What is in each of the files; None for one that cannot be read. Files that are not named are forgotten."""
        before, self._kept = self._kept, {}
        for path in paths:
            now = version(path)
            if now is None:
                continue
            known = before.get(path)
            entry = known if known and known[0] == now else (now, self._readable(path))
            self._kept[path] = entry
            yield path, entry[1]

    def _readable(self, path: Path) -> _T | None:
        try:
            return self._read(path)
        except StorageError:
            return None
