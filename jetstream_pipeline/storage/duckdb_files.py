"""How DuckDB reads an object store by us, where no extension of its own can be installed. Imported only for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.errors import StorageError

if TYPE_CHECKING:
    from upath import UPath


class Objects(AbstractFileSystem):
    """The read-only file system of one connection.

    The store's own would ask for each folder of a pattern by itself, and for an object four times before it is read.
    """

    cachable = False

    def __init__(self, root: UPath) -> None:
        super().__init__()
        self.protocol = root.fs.protocol
        self._root = root
        self._known: dict[str, dict[str, Any]] = {}
        """What the store said of the objects that were opened."""
        self.failure: StorageError | None = None
        """What went wrong last: DuckDB makes a traceback of it."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            self.failure = error
            raise

    def open(self, path: str, mode: str = "rb", **_options: Any) -> objects.Reader:
        with self.noted():
            if mode != "rb":
                raise StorageError(f"cannot write {path}: queries only read the lake")
            reader = _Reader(self._path(path), self)
        self._known[path] = reader.details
        return reader

    def glob(self, path: str, **_options: Any) -> list[str]:
        before, star, pattern = path.partition("*")
        if not star:
            return [path] if self.exists(path) else []
        folder, _, begin = before.rpartition("/")
        with self.noted():
            return [str(found) for found, said in objects.listed(self._path(folder), f"{begin}*{pattern}")]

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        if path not in self._known:
            with self.noted():
                said = objects.info(self._path(path))
            if said is None:
                raise FileNotFoundError(path)
            self._known[path] = said
        return self._known[path]

    def exists(self, path: str, **_options: Any) -> bool:
        try:
            return bool(self.info(path))
        except FileNotFoundError:
            return False

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def isdir(self, path: str) -> bool:
        return False

    def modified(self, path: str) -> datetime:
        return objects.moment(self.info(path))

    def _path(self, address: str) -> UPath:
        return self._root.with_segments(address)


class _Reader(objects.Reader):
    def __init__(self, path: UPath, files: Objects) -> None:
        super().__init__(path)
        self._files = files

    def read(self, size: int = -1) -> bytes:
        with self._files.noted():
            return super().read(size)
