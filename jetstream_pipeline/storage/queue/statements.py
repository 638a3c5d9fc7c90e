"""The tables of a queue's file, and every statement upon them. Transactions, and what they mean, belong to `queue`.

`items` is for people too: whoever opens the file with DuckDB sees what waits there. Times are UTC.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from jetstream_pipeline.storage.queue.items import QueueItem

SCHEMA = """
CREATE TABLE items (id BIGINT, payload VARCHAR USING COMPRESSION uncompressed, metadata VARCHAR, created_at TIMESTAMP,
    status VARCHAR, attempts INTEGER, available_at TIMESTAMP, lease_until TIMESTAMP, reason VARCHAR, token VARCHAR);
CREATE TABLE counters (next_id BIGINT, added BIGINT, acknowledged BIGINT, purged BIGINT, keys BIGINT);
INSERT INTO counters VALUES (1, 0, 0, 0, 0);
CREATE TABLE keys (number BIGINT, key UUID);
CREATE TABLE batches (key UUID);
CREATE TABLE bookmarks (name VARCHAR, text VARCHAR);
"""
EXPIRED = "status = 'claimed' AND lease_until <= $now"
CHOSEN = "(id, token) IN (SELECT id, token FROM chosen)"
"""The items given to `choose`, as long as they are claimed by whoever holds them."""

_FREE = "status = 'pending' AND (available_at IS NULL OR available_at <= $now)"
"""Most are free whatever the clock says: it may be set back."""
_FIRST_FREE = f"{_FREE} AND id <= $last"
_ITEM = "id, payload, metadata, created_at, status, attempts, lease_until, reason, token"
_NO_METADATA = "{}"
_KEYS_REMEMBERED = 200_000
_KEYS_FORGOTTEN = 20_000
"""At a time."""

Connection = duckdb.DuckDBPyConnection


def insert(connection: Connection, payloads: Sequence[str], metadata: str, now: datetime) -> None:
    """Append items in this order."""
    rows = {"number": range(len(payloads)), "payload": pa.array(payloads, pa.string())}
    connection.register("incoming", pa.table(rows))
    connection.execute(
        "INSERT INTO items SELECT next_id + number, payload, $metadata, $now, 'pending', 0, NULL, NULL, NULL, NULL "
        "FROM incoming, counters ORDER BY number",
        {"metadata": metadata, "now": now},
    )
    count(connection, next_id=len(payloads), added=len(payloads))


def count(connection: Connection, **numbers: int) -> None:
    changes = ", ".join(f"{counter} = {counter} + ${counter}" for counter in numbers)
    connection.execute(f"UPDATE counters SET {changes}", numbers)  # noqa: S608 - names of columns


def last_id(connection: Connection) -> int:
    return int(_one(connection, "SELECT next_id - 1 FROM counters"))


def choose(connection: Connection, items: Sequence[QueueItem]) -> None:
    """The items that `CHOSEN` means from now on."""
    numbers = pa.array([item.id for item in items], pa.int64())
    tokens = pa.array([item.token for item in items], pa.string())
    connection.register("chosen", pa.table({"id": numbers, "token": tokens}))


def read(connection: Connection, condition: str, limit: int | None, **values: object) -> list[QueueItem]:
    """Items in the order of their ids."""
    query = f"SELECT {_ITEM} FROM items WHERE {condition} {_first(limit)}"  # noqa: S608 - constants
    return _items(connection, query, values)


def claim(connection: Connection, limit: int | None, now: datetime, token: str, until: datetime) -> list[QueueItem]:
    """The first free items, claimed from now on."""
    query = (
        "UPDATE items SET status = 'claimed', attempts = attempts + 1, lease_until = $until, token = $token "  # noqa: S608
        f"WHERE {_FIRST_FREE} RETURNING {_ITEM}"
    )
    values = {"now": now, "last": _last_free(connection, limit, now), "token": token, "until": until}
    return _items(connection, query, values)


def take(connection: Connection, limit: int | None, now: datetime) -> list[QueueItem]:
    """The first free items, which are gone from now on."""
    query = f"DELETE FROM items WHERE {_FIRST_FREE} RETURNING {_ITEM}"  # noqa: S608 - constants
    return _items(connection, query, {"now": now, "last": _last_free(connection, limit, now)})


def _last_free(connection: Connection, limit: int | None, now: datetime) -> int | None:
    """The id up to which the free items are the first ones. To look for it reads no payload."""
    free = f"SELECT id FROM items WHERE {_FREE} {_first(limit)}"  # noqa: S608 - constants
    last: int | None = _one(connection, f"SELECT max(id) FROM ({free})", {"now": now})  # noqa: S608 - constants
    return last


def _first(limit: int | None) -> str:
    return "ORDER BY id" if limit is None else f"ORDER BY id LIMIT {int(limit)}"


def release(
    connection: Connection,
    condition: str,
    max_attempts: int,
    reason: str,
    available_at: datetime | None = None,
    **values: object,
) -> set[int]:
    """Claimed items become pending again (not before `available_at`), or dead after their last attempt; which."""
    query = (
        "UPDATE items SET status = CASE WHEN attempts >= $most THEN 'dead' ELSE 'pending' END, reason = $reason, "  # noqa: S608
        f"available_at = $available_at, lease_until = NULL, token = NULL WHERE {condition} RETURNING id"
    )
    given = {"most": max_attempts, "reason": reason, "available_at": available_at, **values}
    return _ids(connection, query, given)


def unclaim(connection: Connection) -> set[int]:
    """Chosen items become pending, and their last claim is not counted."""
    query = (
        "UPDATE items SET status = 'pending', attempts = attempts - 1, lease_until = NULL, token = NULL "  # noqa: S608
        f"WHERE {CHOSEN} RETURNING id"
    )
    return _ids(connection, query, {})


def extend(connection: Connection, until: datetime) -> set[int]:
    query = f"UPDATE items SET lease_until = $until WHERE {CHOSEN} RETURNING id"  # noqa: S608 - a constant
    return _ids(connection, query, {"until": until})


def revive(connection: Connection) -> int:
    """Dead items become pending, with all their attempts; how many."""
    query = "UPDATE items SET status = 'pending', attempts = 0, available_at = NULL WHERE status = 'dead' RETURNING id"
    return len(_ids(connection, query, {}))


def delete(connection: Connection, condition: str, **values: object) -> set[int]:
    return _ids(connection, f"DELETE FROM items WHERE {condition} RETURNING id", values)  # noqa: S608 - constants


def first_time(connection: Connection, key: str) -> bool:
    """Whether a batch's key is new; it is known from then on."""
    digest = _digest(key)
    if _one(connection, "SELECT count(*) FROM batches WHERE key = ?", [digest]):
        return False
    connection.execute("INSERT INTO batches VALUES (?)", [digest])
    return True


def known(connection: Connection, keys: Sequence[str]) -> set[int]:
    """Which of the keys are remembered, by their place."""
    _give(connection, keys)
    return _ids(connection, "SELECT number FROM given WHERE key::UUID IN (SELECT key FROM keys)", {})


def remember(connection: Connection, keys: Sequence[str]) -> list[int]:
    """Which of the keys are new, by their place; they are remembered from then on, and the oldest ones forgotten."""
    _give(connection, keys)
    before = int(_one(connection, "UPDATE counters SET keys = keys + ? RETURNING keys", [len(keys)])) - len(keys)
    new = _ids(
        connection,
        "INSERT INTO keys SELECT $before + number, key FROM "
        "(SELECT min(number) AS number, key::UUID AS key FROM given GROUP BY ALL) ANTI JOIN keys USING (key) "
        "RETURNING number",
        {"before": before},
    )
    if (before + len(keys)) // _KEYS_FORGOTTEN > before // _KEYS_FORGOTTEN:
        connection.execute("DELETE FROM keys WHERE number < ?", [before - _KEYS_REMEMBERED])
    return sorted(number - before for number in new)


def _give(connection: Connection, keys: Sequence[str]) -> None:
    digests = pa.array([_digest(key) for key in keys], pa.string())
    connection.register("given", pa.table({"number": range(len(keys)), "key": digests}))


def set_bookmark(connection: Connection, name: str, text: str) -> None:
    if not connection.execute("UPDATE bookmarks SET text = ? WHERE name = ? RETURNING name", [text, name]).fetchall():
        connection.execute("INSERT INTO bookmarks VALUES (?, ?)", [name, text])


def bookmark(connection: Connection, name: str) -> str | None:
    text: str | None = _one(connection, "SELECT max(text) FROM bookmarks WHERE name = ?", [name])
    return text


def figures(connection: Connection, now: datetime) -> dict[str, Any]:
    """The columns of `QueueStats` but the size."""
    query = (
        "SELECT count(*) FILTER (status = 'pending') AS pending, count(*) FILTER (status = 'claimed') AS claimed, "  # noqa: S608
        f"count(*) FILTER ({EXPIRED}) AS expired, count(*) FILTER (status = 'dead') AS dead, "
        "(SELECT added FROM counters) AS added, (SELECT acknowledged FROM counters) AS acknowledged, "
        "(SELECT purged FROM counters) AS purged, "
        "min(created_at) FILTER (status = 'pending') AS oldest_pending_at FROM items"
    )
    result = connection.execute(query, {"now": now})
    names = [column[0] for column in result.description or ()]
    row = dict(zip(names, result.fetchone() or (), strict=True))
    return row | {"oldest_pending_at": _utc(row["oldest_pending_at"])}


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _one(connection: Connection, query: str, values: list[object] | dict[str, object] | None = None) -> Any:
    row = connection.execute(query, values).fetchone()
    assert row, "an aggregate has a row"
    return row[0]


def _ids(connection: Connection, query: str, values: dict[str, Any]) -> set[int]:
    return {number for (number,) in connection.execute(query, values or None).fetchall()}


def _items(connection: Connection, query: str, values: dict[str, Any]) -> list[QueueItem]:
    rows = connection.execute(query, values or None).fetchall()
    return sorted((_item(row) for row in rows), key=lambda item: item.id)


def _item(row: tuple[Any, ...]) -> QueueItem:
    number, payload, metadata, created_at, status, attempts, lease_until, reason, token = row
    described = {} if metadata == _NO_METADATA else json.loads(metadata)
    return QueueItem(number, payload, described, _utc(created_at), status, attempts, _utc(lease_until), reason, token)


def _utc(moment: datetime | None) -> Any:
    return None if moment is None else moment.replace(tzinfo=UTC)
