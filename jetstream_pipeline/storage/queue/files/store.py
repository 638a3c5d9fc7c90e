"""A queue in a DuckDB file of its own. How the file is shared belongs to `file`, what is in it to `rows`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage.files import locked, make_directory, replacing
from jetstream_pipeline.storage.queue.files.file import QueueFile
from jetstream_pipeline.storage.queue.files.rows import SCHEMA, FileRows
from jetstream_pipeline.storage.queue.store import Companion, Rows, Store, T

_SUFFIX = ".duckdb"


class FileStore(Store):
    """`clock`: this machine's, as all who use the file are on it."""

    def __init__(self, folder: Path, name: str, patience: float, clock: Callable[[], datetime] | None = None) -> None:
        self.path = folder / f"{name}{_SUFFIX}"
        self.location = str(self.path)
        self._folder = folder
        self._clock = clock or (lambda: datetime.now(UTC))
        self._file = QueueFile(self.path, patience)

    def create(self) -> None:
        self._file.create(SCHEMA)

    def exists(self) -> bool:
        return self._file.path.exists()

    @contextmanager
    def opened(self) -> Iterator[None]:
        with self._file.kept_open():
            yield

    def read(self, work: Callable[[Rows], T]) -> T:
        with self._file.opened() as connection:
            return work(FileRows(connection, self._clock, self._file.path))

    def write(self, work: Callable[[Rows], T], *, adds: bool = False) -> T:
        with self._file.transaction() as connection:
            return work(FileRows(connection, self._clock, self._file.path))

    def companion(self, name: str) -> Companion:
        return _FileBeside(self._folder / name)


class _FileBeside(Companion):
    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    @contextmanager
    def fetched(self) -> Iterator[Path | None]:
        yield self._path if self._path.exists() else None

    def replaced(self) -> AbstractContextManager[Path]:
        return replacing(self._path)

    @contextmanager
    def alone(self, busy: PipelineError) -> Iterator[None]:
        make_directory(self._path.parent)
        with locked(self._path.with_suffix(".lock"), busy) as lock:
            yield
            lock.remove()


def names(folder: Path) -> list[str]:
    """What the files of a folder are named that may hold queues."""
    return [path.stem for path in folder.glob(f"*{_SUFFIX}")]
