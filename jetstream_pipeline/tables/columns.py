"""Columns of typed tables: how DuckDB takes a value from an event's JSON. Which table has which is in `definitions`.

Records are strangers' data: a value of another type than the lexicon's is null, never an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jetstream_pipeline.sql import literal

_READABLE = r"""coalesce(
    TRY({text}::JSON),
    TRY(regexp_replace({text}, '\\u[dD][89a-fA-F][0-9a-fA-F]{{2}}', '\\ufffd', 'g')::JSON)
)"""


def readable(text: str) -> str:
    """A JSON text's expression as JSON. DuckDB refuses lone surrogates, which JavaScript writes: they become U+FFFD."""
    return _READABLE.format(text=text)


PLAIN, DELTA, LENGTHS, PREFIXED = "PLAIN", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"
"""How Parquet holds values that seldom repeat: as they are; numbers as steps; texts after all of their lengths; texts
without what each has in common with the one before it."""


@dataclass(frozen=True)
class Column:
    """A column: its name, its DuckDB type, what it means, and its SQL over an event and `doc`, the event's JSON."""

    name: str
    type: str
    description: str
    sql: str
    encoding: str | None = None
    """None: a dictionary."""
    shown: str | None = None
    """Its SQL over the file's other columns, where the file does without it and a view makes it."""


_CALL = re.compile(r"(json_type|json_extract_string|json_extract)\(doc, ('(?:[^']|'')*')\)")


def at_once(expressions: str) -> tuple[str, str]:
    """The same expressions with every value of `doc` taken from lists, and the lists as a SELECT's further columns.

    Each call of a JSON function reads the whole text; asked for all of its paths, it does so once.
    """
    calls: dict[str, list[str]] = {}

    def element(call: re.Match[str]) -> str:
        paths = calls.setdefault(call[1], [])
        if call[2] not in paths:
            paths.append(call[2])
        return f"{call[1]}_s[{paths.index(call[2]) + 1}]"

    replaced = _CALL.sub(element, expressions)
    return replaced, "".join(
        f", {function}(doc, [{', '.join(paths)}]) AS {function}_s" for function, paths in calls.items()
    )


def _extract(path: str) -> str:
    return f"json_extract(doc, {literal(path)})"


def _extract_all(path: str) -> str:
    """What a path with wildcards leads to; never null where there is a `doc`."""
    outer, rest = re.fullmatch(r"(\$\.\w+)(.+)", path).groups()  # type: ignore[union-attr]
    return f"coalesce(json_extract({_extract(outer)}, {literal('$' + rest)}), [])"


def _typed(path: str, types: str, value: str) -> str:
    return f"CASE WHEN json_type(doc, {literal(path)}) IN ({types}) THEN {value} END"


def _text(path: str) -> str:
    return f"json_extract_string(doc, {literal(path)})"


def _string(path: str) -> str:
    return _typed(path, "'VARCHAR'", _text(path))


def text(name: str, path: str, description: str, encoding: str | None = None) -> Column:
    """A string."""
    return Column(name, "VARCHAR", description, _string(path), encoding)


def whole(name: str, path: str, description: str) -> Column:
    """A whole number that 64 bits hold."""
    value = f"TRY_CAST({_text(path)} AS BIGINT)"
    return Column(name, "BIGINT", description, _typed(path, "'BIGINT', 'UBIGINT'", value), DELTA)


def flag(name: str, path: str, description: str) -> Column:
    """A boolean."""
    return Column(name, "BOOLEAN", description, _typed(path, "'BOOLEAN'", f"{_text(path)} = 'true'"))


def moment(name: str, path: str, description: str) -> Column:
    """A claimed time. Only full dates and times are read, of the years 1 to 9999, which every tool can show."""
    claimed = f"upper({_string(path)})"
    parsed = f"TRY_CAST({claimed} AS TIMESTAMPTZ)"
    years = "BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
    shape = r"'\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-](0\d|1[0-4]):?[0-5]\d)?'"
    sql = f"CASE WHEN regexp_full_match({claimed}, {shape}) AND {parsed} {years} THEN {parsed} END"
    return Column(name, "TIMESTAMPTZ", description, sql, PLAIN)


def texts(name: str, paths: tuple[str, ...], description: str) -> Column:
    """The strings that the paths lead to, in order; each path has a wildcard."""
    strings = f"list_filter({' || '.join(map(_extract_all, paths))}, lambda found: json_type(found) = 'VARCHAR')"
    sql = f"CASE WHEN doc IS NOT NULL THEN list_transform({strings}, lambda found: found ->> '$') END"
    return Column(name, "VARCHAR[]", description, sql)


def number_of(name: str, paths: tuple[str, ...], description: str) -> Column:
    """How many values the paths lead to; each path has a wildcard."""
    sql = f"CASE WHEN doc IS NOT NULL THEN {' + '.join(f'len({_extract_all(path)})' for path in paths)} END"
    return Column(name, "BIGINT", description, sql)


def did_of(name: str, path: str, description: str) -> Column:
    """The account in an at:// address."""
    return Column(name, "VARCHAR", description, rf"nullif(regexp_extract({_string(path)}, '^at://(did:[^/]+)', 1), '')")


def coalesced(name: str, paths: tuple[str, ...], description: str) -> Column:
    """The first string that one of the paths leads to."""
    return Column(name, "VARCHAR", description, f"coalesce({', '.join(_string(path) for path in paths)})")
