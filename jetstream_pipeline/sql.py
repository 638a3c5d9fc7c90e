"""Putting values into SQL text where DuckDB takes no parameter: a view's definition, a COPY's options."""

from __future__ import annotations

import re


def literal(value: object) -> str:
    """`value` as a quoted SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def glob_safe(path: object) -> str:
    """A path in which DuckDB's glob finds no wildcard, whatever characters its folders' names hold."""
    return re.sub(r"[\[*?]", r"[\g<0>]", str(path))
