"""`jetstream-pipeline sql`: one query over the data, read-only, as a table for people, as JSON or CSV for programs."""

from __future__ import annotations

from collections.abc import Iterator

import click
import duckdb

from jetstream_pipeline.cli.output import WRITERS
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.warehouse.database import querying

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""PIVOT is a statement of the last kind."""


@click.command(short_help="Run a query, read-only, over the views.")
@click.argument("query")
@click.option(
    "-f", "--format", "form", type=click.Choice(list(WRITERS)), default="table", show_default=True,
    help="json: one object per line. A table shows the first 1,000 rows.",
)  # fmt: skip
def sql(query: str, form: str) -> None:
    """Run QUERY read-only over the views: events, posts, likes, …, windows, quarantine.

    `SHOW TABLES` lists them, `DESCRIBE posts` shows a view's columns.
    """
    data = Settings.read().data
    try:
        with querying(data) as connection:
            result = connection.sql(_checked(connection, query))
            if result is not None:
                WRITERS[form](result)
    except duckdb.Error as error:
        raise InvalidInput(" ".join(line.strip() for line in _telling(str(error)))) from None


def _checked(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in _READING:
        raise InvalidInput("give one statement that reads: SELECT, WITH, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN")
    return statements[0]


def _telling(error: str) -> Iterator[str]:
    """The lines of DuckDB's message before it draws where in the statement the error lies."""
    for line in error.splitlines():
        if line.startswith("LINE "):
            return
        if line.strip():
            yield line
