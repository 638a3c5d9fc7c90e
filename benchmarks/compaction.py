"""What it brings a stream of small windows to make days of them: the same queries over hours and over days.

    python benchmarks/compaction.py [--days 365] [--posts 20] [--passes 5]

The windows of a stream that watches a few accounts, so many posts in each hour, are made below a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.lake import STREAM, window_summary
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.storage.files import replacing
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.window_file import write_window
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.compaction import Compaction
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window

_FIRST = date(2025, 7, 1)
_ACCOUNTS = 50
(_POSTS,) = [table for table in TABLES if table.name == "posts"]
_QUERIES = {
    "events by day": "SELECT date, count(*) FROM events GROUP BY date ORDER BY date",
    "one account's posts": "SELECT time, text FROM posts WHERE did = 'did:plc:account7' ORDER BY time",
    "posts of one hour": "SELECT * FROM posts WHERE date = '2025-07-01' AND hour = 14",
    "posts that exist now": "SELECT count(*) FROM posts_current",
    "the view windows": "SELECT state, count(*), sum(events) FROM windows GROUP BY state",
}


def _fill(data: DataDirectory, days: int, posts: int) -> None:
    for number in range(days + 1):
        # Of the newest day, which stays as it is, one hour.
        for window in hours_of(_FIRST + timedelta(days=number))[: 24 if number < days else 1]:
            _make(data, window, posts)


def _make(data: DataDirectory, window: Window, posts: int) -> None:
    batch = decode([_post(window, number, posts) for number in range(posts)], "simulated").events
    with replacing(data.lake.events_path(STREAM, window)) as temporary:
        write_window(temporary, [batch], lambda counts: window_summary(window, counts))
    build_table(_POSTS, STREAM, window, data.lake)


def _post(window: Window, number: int, posts: int) -> bytes:
    moment = window.start + (window.end - window.start) * number / posts
    record = {"$type": "app.bsky.feed.post", "text": f"post {number} of {window.key}", "createdAt": moment.isoformat()}
    key = f"3k{window.start:%Y%m%d%H}{number:03}"
    commit = {"rev": key, "operation": "create", "collection": "app.bsky.feed.post", "rkey": key, "record": record}
    return json.dumps(
        {
            "did": f"did:plc:account{number % _ACCOUNTS}",
            "time_us": int(moment.timestamp() * 1e6),
            "kind": "commit",
            "commit": commit | {"cid": "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae"},
        }
    ).encode()


def _seconds(data: DataDirectory, passes: int) -> dict[str, float]:
    """Each query by a connection of its own, as a program asks that comes and goes."""
    refresh(data)
    found: dict[str, list[float]] = {name: [] for name in _QUERIES}
    for _ in range(passes):
        for name, query in _QUERIES.items():
            began = time.perf_counter()
            with duckdb.connect(data.warehouse, read_only=True) as connection:
                connection.execute(query).fetchall()
            found[name].append(time.perf_counter() - began)
    return {name: median(some) for name, some in found.items()}


def _disk(data: DataDirectory) -> tuple[int, float]:
    sizes = [path.stat().st_size for path in Path(str(data.lake.root)).rglob("*.parquet")]
    return len(sizes), sum(sizes) / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--posts", type=int, default=20, help="of an hour")
    parser.add_argument("--passes", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="compaction-") as folder:
        data = DataDirectory(Path(folder))
        _fill(data, options.days, options.posts)
        before, hours = _seconds(data, options.passes), _disk(data)
        began = time.perf_counter()
        made = list(Compaction(data, STREAM).run(datetime.now(UTC).date(), keep=timedelta()))
        took = time.perf_counter() - began
        after, days = _seconds(data, options.passes), _disk(data)
    assert all(one.kept is None for one in made)
    print(f"{options.days} days of {options.posts} posts an hour; made days of in {took:,.0f} s\n")
    print("| | hours | days | ratio |\n|---|---|---|---|")
    print(f"| files | {hours[0]:,} | {days[0]:,} | {hours[0] / days[0]:.1f} |")
    print(f"| MB | {hours[1]:,.1f} | {days[1]:,.1f} | {hours[1] / days[1]:.1f} |")
    for name, seconds in before.items():
        print(f"| {name}, s | {seconds:.3f} | {after[name]:.3f} | {seconds / after[name]:.1f} |")


if __name__ == "__main__":
    main()
