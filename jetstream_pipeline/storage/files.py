"""Putting files where they belong, whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage.errors import StorageError

_STALE_SEC = 3600.0
"""No file takes so long to be written."""


@contextmanager
def told(path: Path, doing: str) -> Iterator[None]:
    """Turn the operating system's refusal into one line that names the file."""
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


Version = tuple[int, int]


def version(path: Path) -> Version | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`; when the body succeeds, it is durable and takes `target`'s place at once.

    Readers see the old file or the new one. When the body raises, `target` stays as it was.
    """
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


def move(source: Path, target: Path) -> None:
    """Put a durable file in `target`'s place in one step, from another file system too."""
    make_directory(target.parent)
    with told(target, "write"):
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)
            source.unlink()
        fsync_path(target.parent)


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
def locked(path: Path, busy: PipelineError | None = None) -> Iterator[Lock]:
    """Hold the lock on a file or folder, also against other processes; a dead process holds none.

    Waits for it, or raises `busy` where another one has it.
    """
    while True:
        with _opened(path) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
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
