"""Ten queries of a researcher's day, on the warehouse's views and on native DuckDB tables that hold the same rows.

Each query is asked of both in turn, after both have answered it once. It is in order where its median on the views is
under a second, or within twice that on the native tables. What follows the ten is told, and not judged. The lake is
made where it is not there yet. Exit code 1 where a query is not in order, or the answers differ.

    python benchmarks/queries.py --data FOLDER [--hours 24 | --short] [--passes 5]
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.lake import STREAM, make, parser
from jetstream_pipeline.sql import literal
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.current import ACCOUNTS, CURRENT, current_query
from jetstream_pipeline.warehouse.database import querying

SHORT_HOURS = 2
LONGEST_SEC = 1.0
LARGEST_RATIO = 2.0
_BUSIER = 100
"""How many accounts post more than the one that is asked for."""


@dataclass(frozen=True)
class Query:
    """A question, its SQL over views or tables of the same names, and whether it is one of those that are judged."""

    name: str
    sql: str
    judged: bool = True


QUERIES = (
    Query(
        "events by collection and hour",
        "SELECT collection, hour, count(*), count(*) FILTER (operation = 'delete') FROM events GROUP BY ALL",
    ),
    Query(
        "one account's events",
        "SELECT time, collection, operation, rkey FROM events WHERE did = getvariable('account')",
    ),
    Query(
        "one account's posts",
        "SELECT time, uri, text, reply_parent_uri FROM posts WHERE did = getvariable('account')",
    ),
    Query(
        "posts with a word",
        "SELECT time, uri, text FROM posts WHERE text ILIKE '%telescope%' ORDER BY time DESC, uri LIMIT 100",
    ),
    Query(
        "hashtags",
        "SELECT tag, count(*), count(DISTINCT did) FROM (SELECT did, unnest(hashtags) AS tag FROM posts) "
        "GROUP BY tag ORDER BY count(*) DESC, tag LIMIT 20",
    ),
    Query(
        "most liked posts, with their text",
        "SELECT posts.uri, any_value(text), count(*) AS likes FROM likes JOIN posts ON likes.subject_uri = posts.uri "
        "WHERE likes.operation = 'create' AND posts.operation = 'create' "
        "GROUP BY posts.uri ORDER BY likes DESC, posts.uri LIMIT 20",
    ),
    Query(
        "who won followers",
        "SELECT subject_did, count(*) FROM follows WHERE operation = 'create' "
        "GROUP BY subject_did ORDER BY count(*) DESC, subject_did LIMIT 20",
    ),
    Query(
        "posts and replies by language",
        "SELECT lang, count(*), count(reply_parent_uri) "
        "FROM (SELECT unnest(langs) AS lang, reply_parent_uri FROM posts) GROUP BY lang",
    ),
    Query(
        "accounts whose posts were reposted",
        "SELECT subject_did, count(*), count(DISTINCT subject_uri) FROM reposts WHERE operation = 'create' "
        "GROUP BY subject_did ORDER BY count(*) DESC, subject_did LIMIT 20",
    ),
    Query("posts that exist now", "SELECT account_status, count(*) FROM posts_current GROUP BY account_status"),
    Query(
        "accounts whose posts were liked",
        "SELECT subject_did, count(*) FROM likes WHERE operation = 'create' "
        "GROUP BY subject_did ORDER BY count(*) DESC, subject_did LIMIT 20",
        judged=False,
    ),
    Query("a post by its address", "SELECT * FROM posts WHERE uri = getvariable('address')", judged=False),
    Query("likes that exist now", "SELECT account_status, count(*) FROM likes_current GROUP BY ALL", judged=False),
    Query(
        "one account's likes that exist now",
        "SELECT rkey, subject_uri FROM likes_current WHERE did = getvariable('account')",
        judged=False,
    ),
)


@dataclass(frozen=True)
class Timing:
    """Medians of a query's seconds on the views and on the native tables, and whether both said the same."""

    query: Query
    seconds: float
    native_seconds: float
    agreed: bool

    @property
    def ratio(self) -> float:
        return self.seconds / self.native_seconds

    @property
    def in_order(self) -> bool:
        return self.agreed and (self.seconds < LONGEST_SEC or self.ratio <= LARGEST_RATIO or not self.query.judged)

    @property
    def verdict(self) -> str:
        if not self.agreed:
            return "DIFFERS"
        if not self.query.judged:
            return ""
        return "ok" if self.in_order else "SLOW"


def native(data: DataDirectory) -> Path:
    """A DuckDB file with the views' rows in tables; made where it is not there yet, or of other rows."""
    contents = [read_summary(path).content for path in data.lake.windows(STREAM)]
    identity = hashlib.sha256("\n".join([*contents, *(table.query for table in TABLES)]).encode()).hexdigest()[:16]
    path = data.root / f"native-{identity}.duckdb"
    if path.exists():
        return path
    for old in data.root.glob("native-*"):
        old.unlink()
    temporary = path.with_suffix(".tmp")
    with closing(duckdb.connect(temporary)) as connection:
        connection.execute(f"ATTACH {literal(data.warehouse)} AS views (READ_ONLY)")
        connection.execute("CREATE TABLE events AS SELECT * EXCLUDE (record, payload, json) FROM views.events")
        for table in (ACCOUNTS, *(table for table in TABLES if table != ACCOUNTS)):
            connection.execute(f"CREATE TABLE {table.name} AS SELECT * FROM views.{table.name}")  # noqa: S608
            if table.name in CURRENT:
                query = current_query(table, table.name, ACCOUNTS.name)
                connection.execute(f"CREATE VIEW {table.name}_current AS {query}")
    temporary.rename(path)
    return path


def measure(data: DataDirectory, passes: int) -> list[Timing]:
    with querying(data) as views, closing(duckdb.connect(native(data), read_only=True)) as tables:
        ((account, address),) = tables.execute(
            f"SELECT did, max(uri) FROM posts GROUP BY did ORDER BY count(*) DESC, did OFFSET {_BUSIER} LIMIT 1"  # noqa: S608
        ).fetchall()
        for connection in (views, tables):
            connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            connection.execute(f"SET VARIABLE account = {literal(account)}; SET VARIABLE address = {literal(address)}")
        return [_timing(query, views, tables, passes) for query in QUERIES]


def _timing(query: Query, views: duckdb.DuckDBPyConnection, tables: duckdb.DuckDBPyConnection, passes: int) -> Timing:
    answers = [sorted(connection.execute(query.sql).fetchall(), key=repr) for connection in (views, tables)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(passes):
        for connection, taken in zip((views, tables), seconds, strict=True):
            began = time.perf_counter()
            connection.execute(query.sql).fetchall()
            taken.append(time.perf_counter() - began)
    return Timing(query, statistics.median(seconds[0]), statistics.median(seconds[1]), answers[0] == answers[1])


def main(arguments: Sequence[str] | None = None) -> None:
    options_parser = parser(__doc__ or "")
    options_parser.add_argument("--short", action="store_true", help=f"{SHORT_HOURS} hours")
    options_parser.add_argument("--passes", type=int, default=5)
    options = options_parser.parse_args(arguments)
    hours = SHORT_HOURS if options.short else options.hours
    data = make(options.data, hours, options.rate, options.processes)
    files = list(data.lake.windows(STREAM))
    events = sum(read_summary(path).events for path in files)
    print(f"{len(files)} hours, {events:,} events, DuckDB {duckdb.__version__}, medians of {options.passes}")
    print(f"{'query':<36} {'seconds':>8} {'native':>8} {'ratio':>6}")
    timings = measure(data, options.passes)
    for timing in timings:
        figures = f"{timing.seconds:8.3f} {timing.native_seconds:8.3f} {timing.ratio:6.2f}"
        print(f"{timing.query.name:<36} {figures} {timing.verdict}")
    sys.exit(0 if all(timing.in_order for timing in timings) else 1)


if __name__ == "__main__":
    main()
