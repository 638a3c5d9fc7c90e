"""Columns of typed tables: how DuckDB takes a value from an event's JSON. Which table has which is in `definitions`.

Records are strangers' data: a value of another type than the lexicon's is null, never an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from jetstream_pipeline.sql import literal

_READABLE = r"""coalesce(
    TRY({text}::JSON),
    TRY(regexp_replace({text}, '\\u[dD][89a-fA-F][0-9a-fA-F]{{2}}', '\\ufffd', 'g')::JSON)
)"""


def readable(text: str) -> str:
    """A JSON text's expression as JSON. DuckDB refuses lone surrogates, which JavaScript writes: they become U+FFFD."""
    return _READABLE.format(text=text)


@dataclass(frozen=True)
class Column:
    """A column: its name, its DuckDB type, what it means, and its SQL over an event and `doc`, the event's JSON."""

    name: str
    type: str
    description: str
    sql: str


def _extract(path: str) -> str:
    return f"json_extract(doc, {literal(path)})"


def _typed(path: str, types: str, value: str) -> str:
    return f"CASE WHEN json_type(doc, {literal(path)}) IN ({types}) THEN {value} END"


def _string(path: str) -> str:
    return _typed(path, "'VARCHAR'", f"json_extract_string(doc, {literal(path)})")


def text(name: str, path: str, description: str) -> Column:
    """A string."""
    return Column(name, "VARCHAR", description, _string(path))


def whole(name: str, path: str, description: str) -> Column:
    """A whole number that 64 bits hold."""
    value = f"TRY_CAST({_extract(path)} AS BIGINT)"
    return Column(name, "BIGINT", description, _typed(path, "'BIGINT', 'UBIGINT'", value))


def flag(name: str, path: str, description: str) -> Column:
    """A boolean."""
    return Column(name, "BOOLEAN", description, _typed(path, "'BOOLEAN'", f"{_extract(path)} = 'true'"))


def moment(name: str, path: str, description: str) -> Column:
    """A claimed time. Only full dates and times are read, of the years 1 to 9999, which every tool can show."""
    claimed = f"upper({_string(path)})"
    parsed = f"TRY_CAST({claimed} AS TIMESTAMPTZ)"
    years = "BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
    shape = r"'\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-](0\d|1[0-4]):?[0-5]\d)?'"
    sql = f"CASE WHEN regexp_full_match({claimed}, {shape}) AND {parsed} {years} THEN {parsed} END"
    return Column(name, "TIMESTAMPTZ", description, sql)


def texts(name: str, paths: tuple[str, ...], description: str) -> Column:
    """The strings that the paths lead to, in order; each path has a wildcard."""
    found = [f"coalesce(json_extract(doc, {literal(path)}), [])" for path in paths]
    strings = f"list_filter({' || '.join(found)}, lambda found: json_type(found) = 'VARCHAR')"
    sql = f"CASE WHEN doc IS NOT NULL THEN list_transform({strings}, lambda found: found ->> '$') END"
    return Column(name, "VARCHAR[]", description, sql)


def did_of(name: str, path: str, description: str) -> Column:
    """The account in an at:// address."""
    return Column(name, "VARCHAR", description, rf"nullif(regexp_extract({_string(path)}, '^at://(did:[^/]+)', 1), '')")


def coalesced(name: str, paths: tuple[str, ...], description: str) -> Column:
    """The first string that one of the paths leads to."""
    return Column(name, "VARCHAR", description, f"coalesce({', '.join(_string(path) for path in paths)})")
