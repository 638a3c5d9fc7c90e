"""Putting files where they belong, whole or not at all: on a disk, or as objects in a store."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.places import AnyPath

_STALE_SEC = 3600.0
"""No file takes so long to be written."""


@contextmanager
def told(path: AnyPath, doing: str) -> Iterator[None]:
    """Turn the operating system's refusal, or an object store's, into one line that names the file."""
    if not isinstance(path, Path):
        with objects.told(path, doing):
            yield
        return
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot {doing} {path}: {reason}; check that it is writable and has room") from error


def make_directory(path: Path) -> None:
    with told(path, "create"):
        path.mkdir(parents=True, exist_ok=True)


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a directory's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


Version = tuple[int, int] | str


def version(path: AnyPath) -> Version | None:
    """What changes when a file is replaced; None where there is none."""
    if not isinstance(path, Path):
        said = objects.info(path)
        return objects.tag(said) if said else None
    with told(path, "read"):
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
    return status.st_ino, status.st_mtime_ns


def exists(path: AnyPath) -> bool:
    """Whether there is such a file, asked of itself, not of a listing; StorageError where nobody can tell."""
    if not isinstance(path, Path):
        return objects.info(path) is not None
    with told(path, "read"):
        return path.exists()


def size(path: AnyPath) -> int:
    """A file's bytes; StorageError where there is none."""
    if isinstance(path, Path):
        with told(path, "read"):
            return path.stat().st_size
    said = objects.info(path)
    if said is None:
        raise StorageError(f"cannot read {path}: there is no such object")
    return int(said["size"])


def content(path: AnyPath) -> bytes | None:
    """All that a small file holds; None where there is none."""
    if not isinstance(path, Path):
        return objects.content(path)
    with told(path, "read"):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


@dataclass(frozen=True)
class Found:
    """A file as a listing shows it: its bytes, and when it was put there, in unix nanoseconds by the clock there."""

    path: AnyPath
    size: int
    moment_ns: int


def found(folder: AnyPath, pattern: str) -> Iterator[Found]:
    """The files below a folder whose path below it matches, in order. An object that is new may be listed late."""
    if not isinstance(folder, Path):
        for path, said in objects.listed(folder, pattern):
            yield Found(path, int(said["size"]), objects.moment_ns(said))
        return
    for file in sorted(folder.glob(pattern)):
        with suppress(FileNotFoundError):
            # Its last write is older.
            status = file.stat()
            yield Found(file, status.st_size, status.st_ctime_ns)


def folders(folder: AnyPath) -> list[AnyPath]:
    """The folders in a folder, by name; none where there is no such folder."""
    if not isinstance(folder, Path):
        return [*objects.folders(folder)]
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def holds(folder: AnyPath, pattern: str) -> bool:
    """Whether any file below a folder has a path that matches."""
    found = next(folder.glob(pattern), None) if isinstance(folder, Path) else objects.first(folder, pattern)
    return found is not None


@contextmanager
def replacing(target: AnyPath) -> Iterator[Path]:
    """A temporary path; when the body succeeds, what is there is durable and takes `target`'s place at once.

    Readers see the old file or the new one. When the body raises, `target` stays as it was. The temporary path is
    beside `target`, or where this machine keeps temporary files if that is an object.
    """
    if isinstance(target, Path):
        with _replacing(target) as temporary:
            yield temporary
    else:
        with tempfile.TemporaryDirectory(prefix="jetstream-", ignore_cleanup_errors=True) as folder:
            temporary = Path(folder, target.name)
            with told(temporary, "write"):
                yield temporary
            objects.put(temporary, target)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    make_directory(target.parent)
    _remove_stale(target)
    temporary = target.parent / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        with told(target, "write"):
            yield temporary
            fsync_path(temporary)
            os.replace(temporary, target)
            fsync_path(target.parent)
    finally:
        _remove(temporary)


def move(source: Path, target: AnyPath) -> None:
    """Put a durable file in `target`'s place in one step, from another file system too."""
    if not isinstance(target, Path):
        objects.put(source, target)
        with told(source, "delete"):
            source.unlink()
        return
    make_directory(target.parent)
    with told(target, "write"):
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with _replacing(target) as temporary:
                shutil.copyfile(source, temporary)
            source.unlink()
        fsync_path(target.parent)


def delete(path: AnyPath) -> None:
    """Delete a file of a window where it is there, and the folders of its hour and its day where that leaves them
    empty. Who has it open reads on."""
    if not isinstance(path, Path):
        objects.delete(path)
        return
    with told(path, "delete"):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()
        path.parent.parent.rmdir()


def _remove_stale(target: Path) -> None:
    """Delete what processes that died while they replaced `target` have left."""
    with suppress(OSError):
        for temporary in target.parent.glob(f".{target.name}.*.tmp*"):
            if time.time() - temporary.stat().st_mtime > _STALE_SEC:
                temporary.unlink()


def _remove(temporary: Path) -> None:
    """Delete it and what was kept beside it, as DuckDB's log is. Where that fails, the body has said why."""
    with suppress(OSError):
        for path in (temporary, *temporary.parent.glob(f"{temporary.name}.*")):
            path.unlink(missing_ok=True)


class Lock:
    """A held lock on a file or folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def remove(self) -> None:
        """Delete the lock's file, as its holder; whoever waits for it notices."""
        with told(self._path, "delete"):
            self._path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, busy: PipelineError | None = None, *, shared: bool = False) -> Iterator[Lock]:
    """Hold the lock on a file or folder, also against other processes; a dead process holds none.

    Waits for it, or raises `busy` where another one has it. `shared`: with others who hold it so.
    """
    while True:
        with _opened(path) as descriptor:
            try:
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(descriptor, kind | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                assert busy
                raise busy from None
            if is_still(path, descriptor):
                yield Lock(path)
                return


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with told(path, "lock"):
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_still(path: Path, descriptor: int) -> bool:
    """Whether what was opened, as a lock's file that was waited for, has not been replaced or removed since."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
