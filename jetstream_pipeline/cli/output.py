"""What a query answers, written for people or for programs."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator

import click
import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

_ROWS_AT_ONCE = 1024
_TABLE_ROWS = 1000
_ROW = "jetstream_pipeline_row"
"""A name that no column has: where one has a table's name, DuckDB takes it for the column."""
_NOT_FINITE = re.compile(r"NaN|Infinity")
_WIDE = 10_000
"""Columns of a page that nobody looks at: what is piped keeps each row on one line."""


def _texts(result: duckdb.DuckDBPyRelation, columns: str = "COLUMNS(*)::VARCHAR") -> Iterator[tuple[str | None, ...]]:
    """The rows, every value as DuckDB writes it: times with their zone, lists and structs in its own notation."""
    texts = result.query(_ROW, f"SELECT {columns} FROM {_ROW}")  # noqa: S608 - constants of this module
    assert texts is not None, "a SELECT has a result"
    for batch in texts.to_arrow_reader(_ROWS_AT_ONCE):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def write_table(result: duckdb.DuckDBPyRelation) -> None:
    table = Table()
    for name in result.columns:
        table.add_column(Text(printable(name)), overflow="fold")
    for number, row in enumerate(_texts(result)):
        if number == _TABLE_ROWS:
            click.echo(f"the first {_TABLE_ROWS:,} rows; --format csv or json gives them all", err=True)
            break
        table.add_row(*(Text("" if value is None else printable(value)) for value in row))
    console().print(table)


def console() -> Console:
    """Where tables are printed, none of whose rows is broken where nobody looks at them."""
    return Console(width=None if sys.stdout.isatty() else _WIDE)


def printable(text: str, longest: int | None = None) -> str:
    """Strangers' text without what would steer the terminal; what is beyond `longest` characters is left out."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"


def _write_json(result: duckdb.DuckDBPyRelation) -> None:
    for (text,) in _texts(result, f"to_json({_ROW})::VARCHAR"):
        assert text is not None
        if _NOT_FINITE.search(text):
            text = json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
        click.echo(text)


def _write_csv(result: duckdb.DuckDBPyRelation) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows(_texts(result))


WRITERS: dict[str, Callable[[duckdb.DuckDBPyRelation], None]] = {
    "table": write_table,
    "json": _write_json,
    "csv": _write_csv,
}
