"""Reading a stream's data set in SQL: files of windows, and of whole days where there are any. What is made of the rows
is `views`'.

Which of them count is looked up once in a query, and said by one file for each day: its rows come from the day's file
or from those of its hours, never from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jetstream_pipeline.sql import literal
from jetstream_pipeline.storage.days import HOUR_KEY
from jetstream_pipeline.storage.summary import SUMMARY_KEY

_HIVE = "hive_partitioning = true, hive_types = {'date': DATE, 'hour': INTEGER}"
_BY_DAY = "hive_partitioning = true, hive_types = {'date': DATE}"
_DATE = "regexp_extract({}, 'date=([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})', 1)::DATE"


@dataclass(frozen=True)
class Days:
    """The patterns of a data set's files of days, and of what says which of those count."""

    files: str
    marks: str


def rows(columns: str, hours: str | None, days: Days | None = None, options: str = "") -> str:
    """A SELECT of `columns`, which may name `date` and `hour`, from the files that the patterns match."""
    if days is None:
        return _from(columns, hours, f"{_HIVE}{options}") if hours else ""
    parts = [f"{_from(columns, days.files, _BY_DAY)}, days WHERE list_contains(days.marked, date)"]
    if hours:
        parts.append(f"{_from(columns, hours, _HIVE)}, days WHERE NOT list_contains(days.marked, date)")
    return f"({_with_days(days)}\n{' UNION ALL '.join(parts)})"


def _from(columns: str, pattern: str, options: str) -> str:
    return f"SELECT {columns} FROM read_parquet({literal(pattern)}, {options})"  # noqa: S608 - our names, quoted paths


def _with_days(days: Days) -> str:
    date = _DATE.format("file")
    return (
        f"WITH days AS MATERIALIZED (SELECT coalesce(list({date}), []) AS marked "  # noqa: S608 - quoted paths
        f"FROM glob({literal(days.marks)}))"
    )


def summaries(patterns: Sequence[str]) -> str:
    """A SELECT of `summary`, `file_size` and `file` of each window that has a file of its own."""
    listed = f"[{', '.join(literal(pattern) for pattern in patterns)}]"
    return (
        "SELECT decode(value)::JSON AS summary, size::BIGINT AS file_size, file_name AS file "  # noqa: S608
        f"FROM parquet_kv_metadata({listed}) JOIN read_blob({listed}) ON file_name = filename "
        f"WHERE key = {literal(SUMMARY_KEY.decode())}::BLOB"
    )


def summaries_with_days(hours: str | None, days: Days) -> str:
    """The same of a stream some of whose days are one file."""
    hour = (
        "SELECT decode(value)::JSON AS said, file_name "  # noqa: S608 - our names and quoted paths
        f"FROM parquet_kv_metadata({literal(days.files)}) WHERE starts_with(decode(key), {literal(HOUR_KEY)})"
    )
    summary = f"json_extract_string(said, {literal(f'$.metadata.{SUMMARY_KEY.decode()}')})::JSON"
    date = _DATE.format("file")
    parts = [
        f"SELECT {summary} AS summary, json_extract_string(said, '$.bytes')::BIGINT AS file_size, file_name AS file "  # noqa: S608
        f"FROM ({hour}), days WHERE list_contains(days.marked, {_DATE.format('file_name')})"
    ]
    if hours:
        own = summaries([hours])
        parts.append(f"SELECT own.* FROM ({own}) AS own, days WHERE NOT list_contains(days.marked, {date})")  # noqa: S608
    return f"{_with_days(days)} {' UNION ALL '.join(parts)}"
