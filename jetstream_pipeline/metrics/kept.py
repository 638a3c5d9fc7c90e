"""What was read of files, kept for as long as each file is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import Found
from jetstream_pipeline.storage.places import AnyPath

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """Reads each file once, and again when it was replaced."""

    def __init__(self, read: Callable[[AnyPath], _T]) -> None:
        self._read = read
        self._kept: dict[AnyPath, tuple[Found, _T | None]] = {}

    def of(self, files: Iterable[Found]) -> Iterator[tuple[Found, _T | None]]:
        """What is in each of the files; None for one that cannot be read. Files that are not named are forgotten."""
        before, self._kept = self._kept, {}
        for file in files:
            known = before.get(file.path)
            entry = known if known and known[0] == file else (file, self._readable(file.path))
            self._kept[file.path] = entry
            yield entry

    def _readable(self, path: AnyPath) -> _T | None:
        try:
            return self._read(path)
        except StorageError:
            return None
