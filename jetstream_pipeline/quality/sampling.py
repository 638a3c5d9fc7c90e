"""What a window's records look like beside the lexicons: counted in its file by DuckDB, of a large one in a sample.

The sample is every so-many-th row, so that it is the same each time. Whether what is found is too much is `drift`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from jetstream_pipeline.quality.lexicons import COLLECTIONS, RECORDS
from jetstream_pipeline.sql import glob_safe, literal
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.places import AnyPath, shown
from jetstream_pipeline.storage.querying import connected
from jetstream_pipeline.tables.columns import readable

_SAMPLE_ROWS = 200_000
_NAMES = 20
_NAME_CHARS = 60
_FIELDS_OF_ONE = 20
"""Of one record: strangers may give it a million."""

_NUMBER = "SELECT count(*) FROM read_parquet($path, hive_partitioning = false)"
_SHARES = """
SELECT collection, count(*), count(*) FILTER (len(unknown) > 0), count(*) FILTER (lacking)
FROM sampled GROUP BY collection ORDER BY collection"""
_FIELDS = """
SELECT collection || '.' || field AS name, count(*) FROM (SELECT collection, unnest(unknown) AS field FROM sampled)
GROUP BY name ORDER BY count(*) DESC, name LIMIT $names"""
_COLLECTIONS = """
SELECT left(collection, $chars), count(*), count(*) OVER (), (sum(count(*)) OVER ())::BIGINT
FROM read_parquet($path, hive_partitioning = false)
WHERE collection IS NOT NULL AND NOT list_contains($known, collection)
GROUP BY collection ORDER BY count(*) DESC, collection LIMIT $names"""


@dataclass(frozen=True)
class Shares:
    """Of a collection's records: how many were looked at, have a field that its lexicon lacks, lack one that it
    requires."""

    collection: str
    records: int
    unknown: int
    lacking: int


@dataclass(frozen=True)
class Sample:
    """What was found. Names are bounded in number and length, and printable."""

    every: int
    """Of so many rows one was looked at."""
    shares: tuple[Shares, ...]
    fields: dict[str, int]
    """The most frequent fields that no lexicon has, `collection.field`, in the sample."""
    collections: dict[str, int]
    """The most frequent collections that no lexicon has, in the whole window."""
    unknown_collections: int
    unknown_collections_events: int


def sample(path: AnyPath) -> Sample:
    """Look into a window's file; StorageError where it cannot be read."""
    file = glob_safe(shown(path))
    known = {"known": sorted(COLLECTIONS), "names": _NAMES, "chars": _NAME_CHARS + 1}
    try:
        with connected(path) as connection:
            number = connection.execute(_NUMBER, {"path": file}).fetchall()[0][0]
            every = max(1, -(-number // _SAMPLE_ROWS))
            connection.execute(_sampling(), {"path": file, "every": every})
            shares = connection.execute(_SHARES).fetchall()
            fields = connection.execute(_FIELDS, {"names": _NAMES}).fetchall()
            collections = connection.execute(_COLLECTIONS, {"path": file, **known}).fetchall()
    except duckdb.Error as error:
        raise StorageError(f"cannot look into {path}: {str(error).splitlines()[0]}") from error
    return Sample(
        every=every,
        shares=tuple(Shares(*row) for row in shares),
        fields={_printable(name): count for name, count in fields},
        collections={_printable(name): count for name, count, _, _ in collections},
        unknown_collections=collections[0][2] if collections else 0,
        unknown_collections_events=collections[0][3] if collections else 0,
    )


def _sampling() -> str:
    """Makes the table `sampled`, a row for each record looked at."""
    known, lacking = [], []
    for collection, record in RECORDS.items():
        fields = ", ".join(map(literal, ("$type", *record.fields)))
        required = [f"json_type(doc, {literal(f'$.{field}')}) = {literal(kind)}" for field, kind in record.required]
        known.append(f"WHEN {literal(collection)} THEN [{fields}]")
        lacking.append(f"WHEN {literal(collection)} THEN NOT coalesce({' AND '.join(required) or 'true'}, false)")
    strange = (
        f"list_filter(json_keys(doc), lambda field: NOT list_contains(CASE collection {' '.join(known)} END, field))"
    )
    return f"""
CREATE TEMP TABLE sampled AS
SELECT
    collection,
    CASE collection {" ".join(lacking)} END AS lacking,
    list_distinct(
        list_transform({strange}[:{_FIELDS_OF_ONE}], lambda field: left(field, {_NAME_CHARS + 1}))
    ) AS unknown
FROM (
    SELECT collection, {readable("record")} AS doc
    FROM read_parquet($path, hive_partitioning = false, file_row_number = true)
    WHERE file_row_number % $every = 0 AND record IS NOT NULL AND collection IN ({", ".join(map(literal, RECORDS))})
)"""  # noqa: S608 - constants of this project


def _printable(name: str) -> str:
    """A stranger's name, fit for a line on a terminal."""
    shown = ascii(name)[1:-1]
    return shown if len(shown) <= _NAME_CHARS else shown[: _NAME_CHARS - 1] + "…"
