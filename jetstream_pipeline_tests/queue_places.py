"""Where queues are kept, for tests of what is the same upon all of it."""

import os
from collections.abc import Iterator

import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline_tests.postgres import Postgres

DUCKDB, POSTGRES = "duckdb", "postgres"
_DELETE = """DO $$ BEGIN IF to_regclass('jetstream_queues.queues') IS NOT NULL
    THEN DELETE FROM jetstream_queues.queues WHERE {}; END IF; END $$"""


@pytest.fixture(scope="session")
def _queues_database(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield name


@pytest.fixture(params=[DUCKDB, POSTGRES])
def queue_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's queues, and those of the programs that it starts, are in files, and then in a database without any."""
    kind: str = request.param
    monkeypatch.setenv("JETSTREAM_QUEUES", in_postgres(request) if kind == POSTGRES else "")
    return kind


def in_postgres(request: pytest.FixtureRequest) -> str:
    """The address of a database that holds no queues."""
    server: Postgres = request.getfixturevalue("postgres")
    database: str = request.getfixturevalue("_queues_database")
    server.execute(_DELETE.format("true"), database)
    return server.url(database)


def delete(queue: Queue) -> None:
    """The queue is gone, as if it had never been there."""
    if queue.path:
        queue.path.unlink()
    else:
        execute(_DELETE.format(f"name = '{queue.name}'"))


def execute(statement: str) -> list[tuple[object, ...]]:
    """Run a statement in the database of `queue_place`; its rows, where it has some."""
    import psycopg

    with psycopg.connect(os.environ["JETSTREAM_QUEUES"]) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
