"""One connection to the database, made again where it broke; and what is said where that cannot be.

What is then done again belongs to `store`.
"""

from __future__ import annotations

import math
import os
import random
import re
import time
from contextlib import suppress

import psycopg
from psycopg import errors

from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.queue.patience import Patience
from jetstream_pipeline.storage.queue.postgres.address import Address
from jetstream_pipeline.storage.queue.postgres.schema import SCHEMA, Connection

_NAP_SEC = 0.2
_FIRST_SEC = 5.0
"""For so long a server may be starting that has not been reached yet; or its address is wrong."""
_LONGEST_WAIT_SEC = 1_000_000
_REFUSED = re.compile(r"FATAL:|no password supplied|authentication", re.IGNORECASE)
_PASSING = re.compile(r"FATAL: .*(starting up|shutting down|recovery mode|not yet accepting|too many|connection slots)")
"""What a server says that takes connections later."""
_OF_THE_CONNECTION = ("08", "57P", "53300")
"""How the codes of such errors begin."""
_PLANS_TO_AVOID = ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin")
"""All is found by a key, in its order. What the planner believes of tables whose rows come and go is mostly wrong."""
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)


def came_to_nothing(error: psycopg.Error, connection: Connection) -> bool:
    """Whether a statement failed without its fault; all of its transaction may be done again then."""
    return isinstance(error, _AGAIN) or connection.closed


class QueueAway(StorageError):
    """The database cannot be reached, or broke off what was done there."""

    passing = True


class Client:
    """Connects when it is needed, and stays connected."""

    def __init__(self, address: Address, patience: float) -> None:
        """`patience`: seconds for which a statement may wait for others."""
        self._address = address
        self._wait_ms = int(min(max(patience, 0.001), _LONGEST_WAIT_SEC) * 1000)
        self._connection: Connection | None = None
        self._process = os.getpid()
        self._was_connected = False

    def connection(self, patience: Patience) -> Connection:
        """A server that went away is waited for, as it may be starting again; one that was never reached, not for long.

        StorageError where it refuses, QueueAway where it does not answer.
        """
        if self._process != os.getpid():
            # The connection from before a fork is the parent's.
            self._connection, self._process = None, os.getpid()
        ends = math.inf if self._was_connected else time.monotonic() + _FIRST_SEC
        while self._connection is None or self._connection.closed:
            try:
                self._connection = self._connect()
            except psycopg.Error as error:
                told = self.told(error)
                if not isinstance(told, QueueAway) or not patience.left or time.monotonic() > ends:
                    raise told from error
                time.sleep(min(_NAP_SEC * random.uniform(0.5, 1.0), patience.left))
        self._was_connected = True
        return self._connection

    def _connect(self) -> Connection:
        connection: Connection = psycopg.connect(self._address.conninfo, prepare_threshold=None)
        try:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            settings = [f"lock_timeout = {self._wait_ms}", f"search_path = {SCHEMA}, pg_temp"]
            settings += [f"{plan} = off" for plan in _PLANS_TO_AVOID]
            connection.execute("; ".join(f"SET {setting}" for setting in settings).encode())
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def told(self, error: psycopg.Error) -> StorageError:
        code, said = error.sqlstate, self._address.hidden(error.diag.message_primary or str(error))
        text = f"cannot use the queues in {self._address}: {said}"
        if code is None and isinstance(error, psycopg.OperationalError):
            if _REFUSED.search(said) and not _PASSING.search(said):
                return StorageError(f"{text}; see what JETSTREAM_QUEUES, PGPASSWORD or ~/.pgpass says")
            return QueueAway(f"{text}; look whether the server runs and can be reached")
        if code and code.startswith(_OF_THE_CONNECTION):
            return QueueAway(f"{text}; look whether the server runs and can be reached")
        if isinstance(error, errors.InsufficientPrivilege):
            return StorageError(f"{text}; let its owner grant it, see docs/connector.md")
        return StorageError(text)

    def close(self) -> None:
        if self._connection and self._process == os.getpid():
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def __del__(self) -> None:
        self.close()
