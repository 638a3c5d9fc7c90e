"""The database as a place of queues: each of them by its name, and which there are."""

from __future__ import annotations

import psycopg

from jetstream_pipeline.storage.queue.patience import Patience
from jetstream_pipeline.storage.queue.postgres import schema
from jetstream_pipeline.storage.queue.postgres.address import Address
from jetstream_pipeline.storage.queue.postgres.client import Client
from jetstream_pipeline.storage.queue.postgres.store import PostgresStore
from jetstream_pipeline.storage.queue.store import Clock, Place, Store

_ALL = 'SELECT name FROM queues ORDER BY name COLLATE "C"'


class Database(Place):
    """InvalidInput where its address is none."""

    def __init__(self, url: str) -> None:
        self._address = Address(url)

    def __str__(self) -> str:
        return str(self._address)

    def store(self, name: str, patience: float, clock: Clock | None = None) -> Store:
        return PostgresStore(self._address, name, patience, clock)

    def names(self, patience: float) -> list[str]:
        client = Client(self._address, patience)
        connection = client.connection(Patience("", patience))
        try:
            rows = connection.execute(_ALL).fetchall() if schema.exists(connection) else []
        except psycopg.Error as error:
            raise client.told(error) from error
        finally:
            client.close()
        return [name for (name,) in rows]
