"""A queue's DuckDB file: opened for the moment of a transaction, by one process or thread at a time.

What is in it belongs to `rows`.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from jetstream_pipeline.sql import literal
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import fsync_path, told
from jetstream_pipeline.storage.queue.patience import Patience

_STORAGE_VERSION = "v1.0.0"
_FILE = "queue_file"
"""What DuckDB calls it."""
_CONFIG: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "async_threads": 0}
"""No threads beside the caller's: a fork would miss them."""
_OPTIONS = "TYPE duckdb, READ_WRITE, ROW_GROUP_SIZE 4096"
"""Groups of few rows: where one row comes or changes, much of its group is written again."""
_LONG_SEC = 0.25
"""After so long a use, to start DuckDB again costs little, and gives back the memory that it has come to hold."""
_NEXT_NAP_SEC = 0.002
"""Of the one whose turn is next."""
_NAP_SEC = 0.02
_HELD_ELSEWHERE = "Could not set lock on file"
_HELD_HERE = "Unique file handle conflict"
_INTERRUPTED = "Query interrupted"
"""What DuckDB makes of Ctrl-C."""
_HOLDER = re.compile(r"PID (\d+)")


class QueueFile:
    """One DuckDB file and the lock beside it. A dead process holds no lock.

    The file is attached to a DuckDB in memory that stays from call to call: starting one costs more than most calls.
    """

    def __init__(self, path: Path, patience: float) -> None:
        """`patience`: seconds to wait for others."""
        self.path = path
        self._patience = patience
        self._thread = threading.RLock()
        self._idle: duckdb.DuckDBPyConnection | None = None
        self._open: duckdb.DuckDBPyConnection | None = None

    def create(self, script: str) -> None:
        """Make the file with the tables of `script`, unless it is there. DuckDB 1.0 and newer can read it."""
        with told(self.path.parent, "create"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(self._new_patience()):
            if self.path.exists():
                return
            temporary = self.path.with_suffix(".new")
            with told(self.path, "create"), self._told():
                temporary.unlink(missing_ok=True)
                with duckdb.connect() as connection:
                    options = f"TYPE duckdb, STORAGE_VERSION '{_STORAGE_VERSION}'"
                    connection.execute(f"ATTACH {literal(temporary)} AS {_FILE} ({options}); USE {_FILE}; {script}")
                    connection.execute(f"USE memory; DETACH {_FILE}")
                os.replace(temporary, self.path)
                fsync_path(self.path.parent)

    @contextmanager
    def kept_open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The open file, also for calls further down; closed when the outermost one ends."""
        patience = self._new_patience()
        if not self._thread.acquire(timeout=patience.left):
            raise patience.ended(str(os.getpid()))
        try:
            if self._open is not None:
                yield self._open
                return
            with self._locked(patience), self._attached(patience) as connection:
                self._open = connection
                try:
                    yield connection
                finally:
                    self._open = None
        finally:
            self._thread.release()

    @contextmanager
    def opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The open file for what one call does with it."""
        with self.kept_open() as connection, self._told():
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Everything done inside is durable at the end, or nothing of it."""
        with self.opened() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                with suppress(duckdb.Error):
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _attached(self, patience: Patience) -> Iterator[duckdb.DuckDBPyConnection]:
        """The open file. DuckDB is kept where all went well, and fast: an error may have spoiled it."""
        home, self._idle = self._idle or duckdb.connect(config={**_CONFIG, "temp_directory": f"{self.path}.tmp"}), None
        try:
            with self._told():
                self._attach(home, patience)
            began = time.monotonic()
            with home.cursor() as connection:
                with self._told():
                    connection.execute(f"USE {_FILE}")
                yield connection
            if self._detach(home) and time.monotonic() - began < _LONG_SEC:
                self._idle = home
        finally:
            if self._idle is None:
                home.close()

    def _detach(self, home: duckdb.DuckDBPyConnection) -> bool:
        """Close the file with what is in its WAL; whether that went well. Where not, the WAL stays beside it."""
        try:
            with self._told():
                home.execute(f"DETACH {_FILE}")
        except StorageError:
            return False
        return True

    def _attach(self, home: duckdb.DuckDBPyConnection, patience: Patience) -> None:
        """Wait for a program that holds DuckDB's own lock: somebody's shell, say, or a notebook that we run in."""
        if not self.path.exists():
            raise StorageError(f"the queue's file {self.path} is gone; make the queue again, or put the file back")
        while True:
            try:
                home.execute(f"ATTACH {literal(self.path)} AS {_FILE} ({_OPTIONS})")
                return
            except (duckdb.IOException, duckdb.ResourceInUseException) as error:
                text = str(error)
                if _HELD_HERE in text:
                    holder = str(os.getpid())
                elif _HELD_ELSEWHERE in text:
                    found = _HOLDER.search(text)
                    holder = found[1] if found else ""
                else:
                    raise
            patience.nap(_NAP_SEC, holder)

    @contextmanager
    def _locked(self, patience: Patience) -> Iterator[None]:
        """Only one waits for the lock, the others for their turn: whoever lets go cannot take it again at once."""
        with self._descriptor(".lock") as lock:
            with self._descriptor(".turn") as turn:
                self._take(turn, lock, _NAP_SEC, patience)
                self._take(lock, lock, _NEXT_NAP_SEC, patience)
            with told(self.path.with_suffix(".lock"), "write"):
                os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
            yield

    @contextmanager
    def _descriptor(self, suffix: str) -> Iterator[int]:
        path = self.path.with_suffix(suffix)
        with told(path, "lock"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, lock: int, nap_sec: float, patience: Patience) -> None:
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                patience.nap(nap_sec, os.pread(lock, 20, 0).decode().strip())

    def _new_patience(self) -> Patience:
        return Patience(self.path.stem, self._patience)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise StorageError(f"cannot use the queue's file {self.path}: {reason}") from error
        except RuntimeError as error:
            if str(error) == _INTERRUPTED:
                raise KeyboardInterrupt from error
            raise
