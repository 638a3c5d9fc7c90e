"""The server that tests of PostgreSQL stand on: what was committed is there after it was killed."""

import signal

import pytest

from jetstream_pipeline_tests.postgres import Postgres


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_what_was_committed_is_there_after_a_restart(postgres: Postgres, how: signal.Signals) -> None:
    with postgres.database() as name:
        postgres.execute("CREATE TABLE kept AS SELECT 1 AS n", name)
        postgres.restart(how)
        assert postgres.execute("SELECT n FROM kept", name) == [(1,)]


def test_each_test_has_a_database_of_its_own(postgres: Postgres, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    assert postgres.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == [(0,)]
