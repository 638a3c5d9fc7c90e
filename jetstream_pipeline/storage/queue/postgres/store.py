"""A queue in a PostgreSQL database: its transactions, done again where that is safe.

A transaction whose commit was not answered, as when the server was restarted, was done or not. Each store numbers its
transactions in a row of its own (`receipts`), inside of them: the row says later which of the two it was.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import errors

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import told
from jetstream_pipeline.storage.queue.patience import Patience
from jetstream_pipeline.storage.queue.postgres import schema
from jetstream_pipeline.storage.queue.postgres.address import Address
from jetstream_pipeline.storage.queue.postgres.client import Client, QueueAway, came_to_nothing
from jetstream_pipeline.storage.queue.postgres.rows import PostgresRows
from jetstream_pipeline.storage.queue.postgres.schema import SCHEMA, Connection
from jetstream_pipeline.storage.queue.store import Companion, Store, T

_NAP_SEC = 0.05
_FIND = "SELECT id, clock_timestamp() AT TIME ZONE 'UTC' FROM queues WHERE name = %(name)s"
"""The time is the server's, which is the same for all machines."""
_NOTE = (
    "WITH noted AS (INSERT INTO receipts VALUES (%(client)s, %(number)s) "
    "ON CONFLICT (client) DO UPDATE SET number = excluded.number, at = excluded.at) "
)
_ONE_AFTER_THE_OTHER = " FOR NO KEY UPDATE"


class PostgresStore(Store):
    """`clock`: instead of the server's."""

    def __init__(
        self, address: Address, name: str, patience: float, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.path = None
        self.location = f"{SCHEMA}, {name!r}, in {address}"
        self._name = name
        self._seconds = patience
        self._clock = clock
        self._thread = threading.RLock()
        self._client = Client(address, patience)
        self._enrolled: Connection | None = None
        self._receipt = uuid.uuid4()
        self._number = 0
        self._bound: Connection | None = None

    def create(self) -> None:
        def work(connection: Connection) -> None:
            schema.make(connection)
            made = connection.execute(
                "INSERT INTO queues (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id",
                [self._name],
            ).fetchone()
            if made:
                connection.execute("INSERT INTO counters VALUES (%s)", made)

        if not self.exists():
            self._done(work)

    def exists(self) -> bool:
        def work(connection: Connection) -> bool:
            return schema.exists(connection) and self._found(connection, _FIND) is not None

        return self._done(work)

    @contextmanager
    def opened(self) -> Iterator[None]:
        yield

    def read(self, work: Callable[[PostgresRows], T]) -> T:
        return self._done(lambda connection: work(self._rows(connection, _FIND)))

    def write(self, work: Callable[[PostgresRows], T], *, adds: bool = False) -> T:
        find = f"{_NOTE}{_FIND}{_ONE_AFTER_THE_OTHER if adds else ''}"
        return self._done(lambda connection: work(self._rows(connection, find)), noted=True)

    def companion(self, name: str) -> Companion:
        return _Stored(self, name)

    def _rows(self, connection: Connection, find: str) -> PostgresRows:
        found = self._found(connection, find)
        if found is None:
            raise StorageError(f"the queue {self.location} is gone; make the queue again")
        number, now = found
        return PostgresRows(
            connection, number, self._clock().astimezone(UTC).replace(tzinfo=None) if self._clock else now
        )

    def _found(self, connection: Connection, find: str) -> tuple[int, datetime] | None:
        values = {"name": self._name, "client": self._receipt, "number": self._number}
        row = connection.execute(find.encode(), values).fetchone()
        return (row[0], row[1]) if row else None

    def _done(self, work: Callable[[Connection], T], *, noted: bool = False) -> T:
        """`work` in a transaction: again where it came to nothing without its fault, for as long as patience lasts."""
        with self._alone_here() as patience:
            while True:
                connection = self._connection(patience)
                try:
                    return self._attempt(connection, work, patience, noted)
                except errors.LockNotAvailable as error:
                    raise patience.ended("") from error
                except psycopg.Error as error:
                    reason = self._client.told(error)
                    if not came_to_nothing(error, connection) or not patience.left:
                        raise reason from error
                time.sleep(min(_NAP_SEC * random.uniform(0.5, 1.0), patience.left))

    def _attempt(self, connection: Connection, work: Callable[[Connection], T], patience: Patience, noted: bool) -> T:
        try:
            if noted:
                self._enrol(connection)
                self._number += 1
            result = work(connection)
        except BaseException:
            with suppress(psycopg.Error):
                connection.rollback()
            raise
        try:
            connection.commit()
        except psycopg.Error as error:
            if not noted or not connection.closed or not self._was_committed(error, patience):
                raise
        except BaseException:
            connection.close()
            raise
        return result

    def _enrol(self, connection: Connection) -> None:
        """Make the row of this connection's receipts, so that its first one is waited for too, and sweep old ones."""
        if self._enrolled is not connection:
            self._receipt, self._number = uuid.uuid4(), 0
            connection.execute("DELETE FROM receipts WHERE at < now() - interval '7 days'")
            connection.execute("INSERT INTO receipts VALUES (%s, 0)", [self._receipt])
            connection.commit()
            self._enrolled = connection

    def _was_committed(self, cause: psycopg.Error, patience: Patience) -> bool:
        """Whether the last transaction was done, by its receipt. One that is still under way is waited for."""
        query = "SELECT number FROM receipts WHERE client = %s FOR UPDATE"
        while True:
            try:
                connection = self._connection(patience)
                row = connection.execute(query.encode(), [self._receipt]).fetchone()
                connection.commit()
                return row == (self._number,)
            except psycopg.Error as error:
                if not came_to_nothing(error, connection) or not patience.left:
                    raise self._unknown(cause) from error
            except StorageError as error:
                raise self._unknown(cause) from error

    def _unknown(self, cause: psycopg.Error) -> QueueAway:
        return QueueAway(f"{self._client.told(cause)}; whether the last call was done is not known")

    def _connection(self, patience: Patience) -> Connection:
        if self._bound and self._bound.closed:
            raise self._broken_off()
        return self._client.connection(patience)

    def _broken_off(self) -> QueueAway:
        return QueueAway(f"the connection to the queue {self.location} broke, and its lock is lost; begin again")

    @contextmanager
    def _alone_here(self) -> Iterator[Patience]:
        """One thread at a time."""
        patience = Patience(self._name, self._seconds)
        if not self._thread.acquire(timeout=patience.left):
            raise patience.ended(str(os.getpid()))
        try:
            yield patience
        finally:
            self._thread.release()

    @contextmanager
    def bound(self, lock: str, busy: PipelineError) -> Iterator[None]:
        """Hold a lock that goes with the connection. Where that breaks nothing more is done in the body: the lock and
        all that it guards end together."""
        text = f"{SCHEMA}/{self._name}/{lock}"
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)
        with self._alone_here() as patience:
            taken = self._done(
                lambda connection: connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
            )
            if taken != (True,):
                raise busy
            before, self._bound = self._bound, self._client.connection(patience)
            try:
                yield
            finally:
                with suppress(psycopg.Error):
                    self._bound.execute("SELECT pg_advisory_unlock(%s)", [key])
                    self._bound.commit()
                self._bound = before


class _Stored(Companion):
    """A file in the database, of which there is a copy here for as long as it is used."""

    def __init__(self, store: PostgresStore, name: str) -> None:
        self._store = store
        self._name = name

    def __str__(self) -> str:
        return f"{self._name} of {self._store.location}"

    @contextmanager
    def fetched(self) -> Iterator[Path | None]:
        content = self._store.read(lambda rows: rows.companion(self._name))
        if content is None:
            yield None
            return
        with self._copy() as path:
            with told(path, "write"):
                path.write_bytes(content)
            yield path

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        with self._copy() as path:
            yield path
            with told(path, "read"):
                content = path.read_bytes()
        self._store.write(lambda rows: rows.set_companion(self._name, content), adds=True)

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="jetstream-queue-") as folder:
            yield Path(folder, Path(self._name).name)

    def alone(self, busy: PipelineError) -> AbstractContextManager[None]:
        return self._store.bound(self._name, busy)
