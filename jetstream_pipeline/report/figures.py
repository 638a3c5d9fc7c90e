"""What a report counts of a window's events, by DuckDB. Drawing and writing it is `pictures`' and `text`'s.

What a post holds is read as the table of posts reads it: nothing here looks into JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.events.schema import COMMIT
from jetstream_pipeline.sql import glob_safe, literal
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.parquet import bytes_by_column
from jetstream_pipeline.storage.places import AnyPath, shown
from jetstream_pipeline.storage.querying import connected
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window

_COLLECTIONS = 6
_CHARACTERS = 500
_PER_POST = 50
"""Strangers choose how long a text is and how many of them a post has; what lies beyond these is not regarded."""
_MINUTE_US = 60_000_000


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Series(_Frozen):
    """The events of one collection, or of one kind that has none, minute by minute from the window's start."""

    kind: str
    collection: str | None
    """None for commits: those of all collections that have no series of their own."""
    per_minute: tuple[int, ...]

    @property
    def label(self) -> str:
        if self.collection is not None:
            return self.collection
        return "other" if self.is_rest else self.kind

    @property
    def is_rest(self) -> bool:
        return self.kind == COMMIT and self.collection is None

    @property
    def total(self) -> int:
        return sum(self.per_minute)


class Ranked(_Frozen):
    """A name that strangers wrote, and how many posts have it: each post once, however often it does."""

    name: str
    posts: int


class Sized(_Frozen):
    """What a column of the window's file takes on disk."""

    column: str
    bytes: int


class Figures(_Frozen):
    """What was counted of one window. Posts are those that were created in it."""

    events: int
    accounts: int
    """Repositories that have any event."""
    creates: int
    updates: int
    deletes: int
    posts: int
    posting_accounts: int
    events_elsewhere: int
    """Events whose time lies outside of the window, as imported ones' do: they are in no minute."""
    per_minute: tuple[Series, ...]
    """The most frequent collections, the most frequent one first, the rest of them, then the other kinds."""
    languages: tuple[Ranked, ...]
    """By primary subtag (`en` of `en-GB`), the most frequent first, as in all that follow. A post may have several."""
    languages_other: int
    """Posts that have a language which is not among these."""
    languages_unstated: int
    hashtags: tuple[Ranked, ...]
    """Without regard to case."""
    domains: tuple[Ranked, ...]
    """Hosts of the http and https addresses in posts' texts and link cards, without `www.`."""
    addresses: tuple[Ranked, ...]
    """These addresses as written."""
    columns: tuple[Sized, ...]
    """Of the window's file, the largest first."""


def _texts(list_sql: str, value: str) -> str:
    """SQL of a post's texts, each once and none empty: `value`, an expression over `found`, of each of a list's."""
    cut = f"lambda found: left({value}, {_CHARACTERS})"
    return f"list_distinct(list_filter(list_transform({list_sql}, {cut}), lambda found: found <> ''))"


_TOTALS = """
SELECT
    count(*) AS events,
    count(DISTINCT did) AS accounts,
    count(*) FILTER (operation = 'create') AS creates,
    count(*) FILTER (operation = 'update') AS updates,
    count(*) FILTER (operation = 'delete') AS deletes
FROM read_parquet($1, hive_partitioning = false)
"""

_PER_MINUTE = f"""
WITH events AS (
    SELECT
        kind,
        left(collection, {_CHARACTERS}) AS collection,
        time_us // {_MINUTE_US} - $2 AS minute
    FROM read_parquet($1, hive_partitioning = false)
), frequent AS (
    SELECT collection AS name
    FROM events WHERE kind = {literal(COMMIT)} GROUP BY name ORDER BY count(*) DESC, name LIMIT {_COLLECTIONS}
)
SELECT kind, name, if(minute BETWEEN 0 AND $3 - 1, minute, NULL) AS minute, count(*)
FROM events LEFT JOIN frequent ON collection = name
GROUP BY ALL
"""  # noqa: S608 - constants of this module

_HOST = r"""'^(?i:https?)://(?:[^/?#\\]*@)?(?i:www\.)?(\[[^\]/?#\\]*\]|[^/?#\\:@]+)'"""

_POSTS = f"""
CREATE TEMP TABLE posts AS
SELECT
    did,
    {_texts("langs", "regexp_extract(lower(found), '^([a-z]{2,8})(?:[-_]|$)', 1)")} AS langs,
    {_texts("hashtags", "lower(nfc_normalize(found))")} AS hashtags,
    {_texts("links", f"rtrim(lower(regexp_extract(found, {_HOST}, 1)), '.')")} AS domains,
    {_texts("links", f"if(regexp_matches(found, {_HOST}), found, '')")} AS addresses
FROM (
    SELECT
        did,
        coalesce(langs, [])[:{_PER_POST}] AS langs,
        coalesce(hashtags, [])[:{_PER_POST}] AS hashtags,
        [external_uri] || coalesce(links, [])[:{_PER_POST}] AS links
    FROM ({next(table.query for table in TABLES if table.name == "posts")})
    WHERE operation = 'create'
)
"""  # noqa: S608 - constants of this module and of the tables'

_POSTING = """
SELECT
    count(*) AS posts,
    count(DISTINCT did) AS posting_accounts,
    count(*) FILTER (NOT list_has_all($1::VARCHAR[], langs)) AS languages_other,
    count(*) FILTER (langs = []) AS languages_unstated
FROM posts
"""


def count_figures(events: AnyPath, window: Window) -> Figures:
    """Count a window's events file; StorageError where it cannot be read."""
    try:
        with connected(events) as connection:
            return _counted(connection, events, window)
    except duckdb.Error as error:
        raise StorageError(f"cannot count what {events} holds: {str(error).splitlines()[0]}") from error


def _counted(connection: duckdb.DuckDBPyConnection, path: AnyPath, window: Window) -> Figures:
    events = glob_safe(shown(path))
    minutes = (window.end_us - window.start_us) // _MINUTE_US
    per_minute = connection.execute(_PER_MINUTE, [events, window.start_us // _MINUTE_US, minutes]).fetchall()
    connection.execute(_POSTS, [events])
    languages = _ranking(connection, "langs", 15)
    return Figures(
        **_named(connection.execute(_TOTALS, [events])),
        **_named(connection.execute(_POSTING, [[language.name for language in languages]])),
        events_elsewhere=sum(count for *_, minute, count in per_minute if minute is None),
        per_minute=_series(per_minute, minutes),
        languages=languages,
        hashtags=_ranking(connection, "hashtags", 15),
        domains=_ranking(connection, "domains", 15),
        addresses=_ranking(connection, "addresses", 10),
        columns=_sized(path),
    )


def _sized(path: AnyPath) -> tuple[Sized, ...]:
    sizes = sorted(bytes_by_column(path).items(), key=lambda one: -one[1])
    return tuple(Sized(column=name, bytes=size) for name, size in sizes)


def _named(result: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The one row of a result, by its columns' names."""
    row = result.fetchone()
    assert row is not None
    assert result.description is not None
    return dict(zip((column[0] for column in result.description), row, strict=True))


def _ranking(connection: duckdb.DuckDBPyConnection, column: str, longest: int) -> tuple[Ranked, ...]:
    """The texts in a column of lists that most posts have."""
    ranking = (
        f"SELECT name, count(*) AS posts FROM (SELECT unnest({column}) AS name FROM posts) "  # noqa: S608 - ours
        f"GROUP BY name ORDER BY posts DESC, name LIMIT {longest}"
    )
    return tuple(Ranked(name=name, posts=posts) for name, posts in connection.execute(ranking).fetchall())


def _series(rows: Iterable[tuple[str, str | None, int | None, int]], minutes: int) -> tuple[Series, ...]:
    """From (kind, frequent collection, minute, events); what lies in no minute is left out."""
    counts: dict[tuple[str, str | None], list[int]] = {}
    for kind, collection, minute, events in rows:
        if minute is not None:
            counts.setdefault((kind, collection), [0] * minutes)[minute] += events
    series = [
        Series(kind=kind, collection=collection, per_minute=tuple(per_minute))
        for (kind, collection), per_minute in counts.items()
    ]
    return tuple(sorted(series, key=_place))


def _place(series: Series) -> tuple[bool, bool, int, str]:
    return series.kind != COMMIT, series.is_rest, -series.total, series.label
