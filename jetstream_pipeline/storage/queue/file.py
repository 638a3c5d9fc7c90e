"""A queue's DuckDB file: opened for the moment of a transaction, by one process or thread at a time.

What is in it belongs to `queue`.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from jetstream_pipeline.sql import literal
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import told

_STORAGE_VERSION = "v1.0.0"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {"threads": 1}
_FIRST_NAP_SEC = 0.002
_LONGEST_NAP_SEC = 0.05
_HOLDER = re.compile(r"PID (\d+)")


class QueueBusy(StorageError):
    """Somebody else had the queue open for longer than we were willing to wait."""

    passing = True


class QueueFile:
    """One DuckDB file and the lock beside it. A dead process holds no lock."""

    def __init__(self, path: Path, patience: float) -> None:
        """`patience`: seconds to wait for others."""
        self.path = path
        self._patience = patience
        self._thread = threading.RLock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    def create(self, script: str) -> None:
        """Make the file with the tables of `script`, unless it is there. DuckDB 1.0 and newer can read it."""
        with told(self.path.parent, "create"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.path.exists():
                return
            temporary = self.path.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            with self._told(), duckdb.connect() as connection:
                connection.execute(f"ATTACH {literal(temporary)} AS made (STORAGE_VERSION '{_STORAGE_VERSION}')")
                connection.execute(f"USE made; {script} USE memory; DETACH made")
            os.replace(temporary, self.path)

    @contextmanager
    def opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The open file, also for calls further down; closed when the outermost one ends."""
        if not self._thread.acquire(timeout=self._patience):
            raise self._busy("")
        try:
            if self._connection is not None:
                yield self._connection
                return
            with self._locked(), self._told(), self._connected() as connection:
                self._connection = connection
                try:
                    yield connection
                finally:
                    self._connection = None
        finally:
            self._thread.release()

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Everything done inside is durable at the end, or nothing of it."""
        with self.opened() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Wait for a program that holds DuckDB's own lock: somebody's shell, say."""
        for nap in self._naps():
            try:
                connection = duckdb.connect(self.path, config=_CONFIG)
                break
            except duckdb.IOException as error:
                if "lock" not in str(error):
                    raise
                if nap is None:
                    holder = _HOLDER.search(str(error))
                    raise self._busy(holder[1] if holder else "") from None
                time.sleep(nap)
        with connection:
            yield connection

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path.with_suffix(".lock")
        with told(path, "lock"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            for nap in self._naps():
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if nap is None:
                        raise self._busy(os.pread(descriptor, 20, 0).decode()) from None
                    time.sleep(nap)
            with told(path, "write"):
                os.pwrite(descriptor, f"{os.getpid():<20}".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _naps(self) -> Iterator[float | None]:
        """How long to sleep before trying again; None when patience has ended."""
        deadline = time.monotonic() + self._patience
        nap = _FIRST_NAP_SEC
        while time.monotonic() < deadline:
            yield nap * random.uniform(0.5, 1.0)
            nap = min(nap * 1.5, _LONGEST_NAP_SEC)
        yield None

    def _busy(self, holder: str) -> QueueBusy:
        who = f"process {holder.strip()}" if holder.strip() else "somebody else"
        return QueueBusy(f"{who} holds the queue {self.path.stem} for more than {self._patience:g} s; end it, or wait")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise StorageError(f"cannot use the queue's file {self.path}: {reason}") from error
