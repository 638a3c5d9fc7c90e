"""The tables of a queue's DuckDB file, and every statement upon them. The file itself belongs to `file`.

`items` is for people too: whoever opens the file with DuckDB sees what waits there. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jetstream_pipeline.storage.queue import store
from jetstream_pipeline.storage.queue.items import QueueItem, QueueStats
from jetstream_pipeline.storage.queue.store import ITEM, Release, Rows, digest, in_utc, item_of

SCHEMA = """
CREATE TABLE items (id BIGINT, payload VARCHAR USING COMPRESSION uncompressed, metadata VARCHAR, created_at TIMESTAMP,
    status VARCHAR, attempts INTEGER, available_at TIMESTAMP, lease_until TIMESTAMP, reason VARCHAR, token VARCHAR);
CREATE TABLE counters (next_id BIGINT, added BIGINT, acknowledged BIGINT, purged BIGINT, keys BIGINT);
INSERT INTO counters VALUES (1, 0, 0, 0, 0);
CREATE TABLE keys (number BIGINT, key UUID);
CREATE TABLE batches (key UUID);
CREATE TABLE bookmarks (name VARCHAR, text VARCHAR);
"""
_EXPIRED = "status = 'claimed' AND lease_until <= $now"
_CHOSEN = "(id, token) IN (SELECT id, token FROM chosen)"
"""The items given to `_choose`, as long as they are claimed by whoever holds them."""
_FREE = "status = 'pending' AND (available_at IS NULL OR available_at <= $now)"
"""Most are free whatever the clock says: it may be set back."""
_FIRST_FREE = f"{_FREE} AND id <= $last"


class FileRows(Rows):
    """The rows of an open file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, clock: Callable[[], datetime], path: Path) -> None:
        self._connection = connection
        self._clock = clock
        self._path = path

    @property
    def now(self) -> datetime:
        return self._clock().astimezone(UTC).replace(tzinfo=None)

    def insert(self, payloads: Sequence[str], metadata: str) -> int:
        rows = {"number": range(len(payloads)), "payload": pa.array(payloads, pa.string())}
        self._connection.register("incoming", pa.table(rows))
        self._connection.execute(
            "INSERT INTO items SELECT next_id + number, payload, $metadata, $now, 'pending', 0, NULL, NULL, NULL, NULL "
            "FROM incoming, counters ORDER BY number",
            {"metadata": metadata, "now": self.now},
        )
        counted = {"next_id": len(payloads), "added": len(payloads)}
        return int(
            self._one(
                "UPDATE counters SET next_id = next_id + $next_id, added = added + $added RETURNING next_id - 1",
                counted,
            )
        )

    def read(self, status: str | None, limit: int | None) -> list[QueueItem]:
        query = f"SELECT {ITEM} FROM items WHERE $status IS NULL OR status = $status {_first(limit)}"  # noqa: S608
        return self._items(query, {"status": status})

    def claim(self, limit: int | None, token: str, until: datetime) -> list[QueueItem]:
        now = self.now
        query = (
            "UPDATE items SET status = 'claimed', attempts = attempts + 1, lease_until = $until, token = $token "  # noqa: S608
            f"WHERE {_FIRST_FREE} RETURNING {ITEM}"
        )
        return self._items(query, {"now": now, "last": self._last_free(limit, now), "token": token, "until": until})

    def take(self, limit: int | None) -> list[QueueItem]:
        now = self.now
        query = f"DELETE FROM items WHERE {_FIRST_FREE} RETURNING {ITEM}"  # noqa: S608 - constants
        items = self._items(query, {"now": now, "last": self._last_free(limit, now)})
        self._count("acknowledged", len(items))
        return items

    def _last_free(self, limit: int | None, now: datetime) -> int | None:
        """The id up to which the free items are the first ones. To look for it reads no payload."""
        free = f"SELECT id FROM items WHERE {_FREE} {_first(limit)}"  # noqa: S608 - constants
        last: int | None = self._one(f"SELECT max(id) FROM ({free})", {"now": now})  # noqa: S608 - constants
        return last

    def acknowledge(self, items: Sequence[QueueItem]) -> set[int]:
        self._choose(items)
        ours = self._ids(f"DELETE FROM items WHERE {_CHOSEN} RETURNING id")  # noqa: S608 - a constant
        self._count("acknowledged", len(ours))
        return ours

    def release(self, items: Sequence[QueueItem], release: Release) -> set[int]:
        self._choose(items)
        return self._release(_CHOSEN, release)

    def release_expired(self, release: Release) -> int:
        return len(self._release(_EXPIRED, release, now=self.now))

    def _release(self, condition: str, release: Release, **values: object) -> set[int]:
        query = (
            "UPDATE items SET status = CASE WHEN attempts >= $most THEN 'dead' ELSE 'pending' END, reason = $reason, "  # noqa: S608
            f"available_at = $available_at, lease_until = NULL, token = NULL WHERE {condition} RETURNING id"
        )
        given = {"most": release.max_attempts, "reason": release.reason, "available_at": release.available_at}
        return self._ids(query, given | values)

    def unclaim(self, items: Sequence[QueueItem]) -> set[int]:
        self._choose(items)
        query = (
            "UPDATE items SET status = 'pending', attempts = attempts - 1, lease_until = NULL, token = NULL "  # noqa: S608
            f"WHERE {_CHOSEN} RETURNING id"
        )
        return self._ids(query)

    def extend(self, items: Sequence[QueueItem], until: datetime) -> set[int]:
        self._choose(items)
        query = f"UPDATE items SET lease_until = $until WHERE {_CHOSEN} RETURNING id"  # noqa: S608 - a constant
        return self._ids(query, {"until": until})

    def _choose(self, items: Sequence[QueueItem]) -> None:
        numbers = pa.array([item.id for item in items], pa.int64())
        tokens = pa.array([item.token for item in items], pa.string())
        self._connection.register("chosen", pa.table({"id": numbers, "token": tokens}))

    def revive(self) -> int:
        query = (
            "UPDATE items SET status = 'pending', attempts = 0, available_at = NULL WHERE status = 'dead' RETURNING id"
        )
        return len(self._ids(query))

    def purge(self, status: str | None) -> int:
        gone = self._ids("DELETE FROM items WHERE $status IS NULL OR status = $status RETURNING id", {"status": status})
        self._count("purged", len(gone))
        return len(gone)

    def first_time(self, key: str) -> bool:
        known = digest(key)
        if self._one("SELECT count(*) FROM batches WHERE key = ?", [known]):
            return False
        self._connection.execute("INSERT INTO batches VALUES (?)", [known])
        return True

    def known(self, keys: Sequence[str]) -> set[int]:
        self._give(keys)
        return self._ids("SELECT number FROM given WHERE key::UUID IN (SELECT key FROM keys)")

    def remember(self, keys: Sequence[str]) -> list[int]:
        self._give(keys)
        before = int(self._one("UPDATE counters SET keys = keys + ? RETURNING keys", [len(keys)])) - len(keys)
        new = self._ids(
            "INSERT INTO keys SELECT $before + number, key FROM "
            "(SELECT min(number) AS number, key::UUID AS key FROM given GROUP BY ALL) ANTI JOIN keys USING (key) "
            "RETURNING number",
            {"before": before},
        )
        if store.forgets(before, len(keys)):
            self._connection.execute("DELETE FROM keys WHERE number < ?", [before - store.KEYS_REMEMBERED])
        return sorted(number - before for number in new)

    def _give(self, keys: Sequence[str]) -> None:
        digests = pa.array([digest(key) for key in keys], pa.string())
        self._connection.register("given", pa.table({"number": range(len(keys)), "key": digests}))

    def bookmark(self, name: str) -> str | None:
        text: str | None = self._one("SELECT max(text) FROM bookmarks WHERE name = ?", [name])
        return text

    def set_bookmark(self, name: str, text: str) -> None:
        changed = self._connection.execute("UPDATE bookmarks SET text = ? WHERE name = ? RETURNING name", [text, name])
        if not changed.fetchall():
            self._connection.execute("INSERT INTO bookmarks VALUES (?, ?)", [name, text])

    def stats(self) -> QueueStats:
        query = (
            "SELECT count(*) FILTER (status = 'pending') AS pending, count(*) FILTER (status = 'claimed') AS claimed, "  # noqa: S608
            f"count(*) FILTER ({_EXPIRED}) AS expired, count(*) FILTER (status = 'dead') AS dead, "
            "(SELECT added FROM counters) AS added, (SELECT acknowledged FROM counters) AS acknowledged, "
            "(SELECT purged FROM counters) AS purged, "
            "min(created_at) FILTER (status = 'pending') AS oldest_pending_at FROM items"
        )
        ((*figures, oldest),) = self._connection.execute(query, {"now": self.now}).fetchall()
        return QueueStats(*[*figures, in_utc(oldest), self._path.stat().st_size])

    def _count(self, counter: str, number: int) -> None:
        self._connection.execute(f"UPDATE counters SET {counter} = {counter} + ?", [number])  # noqa: S608 - a column

    def _one(self, query: str, values: list[Any] | dict[str, Any] | None = None) -> Any:
        ((value,),) = self._connection.execute(query, values).fetchall()
        return value

    def _ids(self, query: str, values: dict[str, Any] | None = None) -> set[int]:
        return {number for (number,) in self._connection.execute(query, values or None).fetchall()}

    def _items(self, query: str, values: dict[str, Any]) -> list[QueueItem]:
        rows = self._connection.execute(query, values).fetchall()
        return sorted((item_of(row) for row in rows), key=lambda item: item.id)


def _first(limit: int | None) -> str:
    return "ORDER BY id" if limit is None else f"ORDER BY id LIMIT {int(limit)}"
