"""Every statement upon a queue's rows in PostgreSQL. Its tables belong to `schema`, transactions to `store`.

Claims pass over the rows that others are about to change (`SKIP LOCKED`), so that nobody waits for another's claim.
"""

# ruff: noqa: S608 - nothing but the constants of this module and `ITEM` is put into a statement's text.

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from jetstream_pipeline.storage.queue import store
from jetstream_pipeline.storage.queue.items import QueueItem, QueueStats
from jetstream_pipeline.storage.queue.postgres.schema import IN_LINE, Connection
from jetstream_pipeline.storage.queue.store import ITEM, Release, Rows, digest, in_utc, item_of

_FREE = "queue = %(queue)s AND status = 'pending' AND (available_at IS NULL OR available_at <= %(now)s)"
_EXPIRED = "queue = %(queue)s AND status = 'claimed' AND lease_until <= %(now)s"
_CHOSEN = (
    "(id, token) IN (SELECT id, token FROM unnest(string_to_array(%(ids)s, ',')::bigint[], "
    "string_to_array(%(tokens)s, ',')) AS chosen (id, token)) AND queue = %(queue)s"
)
_REASON = 7
"""Its place among the columns of an item."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class PostgresRows(Rows):
    """The rows of the queue with this number, in the transaction that the connection is in."""

    def __init__(self, connection: Connection, queue: int, now: datetime) -> None:
        self._connection = connection
        self._queue = queue
        self._now = now

    @property
    def now(self) -> datetime:
        return self._now

    def insert(self, payloads: Sequence[str], metadata: str) -> int:
        number = len(payloads)
        last = int(
            self._one(
                "UPDATE queues SET next_id = next_id + %(number)s, added = added + %(number)s "
                "WHERE id = %(queue)s RETURNING next_id - 1",
                number=number,
            )
        )
        copied = "COPY items (queue, id, payload, metadata, created_at) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(copied) as copy:
            for place, payload in enumerate(payloads, last - number + 1):
                copy.write_row((self._queue, place, payload, metadata, self._now))
        return last

    def read(self, status: str | None, limit: int | None) -> list[QueueItem]:
        condition = "queue = %(queue)s AND (%(status)s::text IS NULL OR status = %(status)s)"
        return self._items(
            f"SELECT {ITEM} FROM items WHERE {condition} ORDER BY id LIMIT %(limit)s",
            status=status,
            limit=limit,
        )

    def claim(self, limit: int | None, token: str, until: datetime) -> list[QueueItem]:
        return self._items(
            f"UPDATE items SET status = 'claimed', attempts = attempts + 1, lease_until = %(until)s, "
            f"token = %(token)s WHERE queue = %(queue)s AND id = ANY (ARRAY({_first(_FREE)})) RETURNING {ITEM}",
            limit=limit,
            token=token,
            until=until,
        )

    def take(self, limit: int | None) -> list[QueueItem]:
        items = self._items(
            f"DELETE FROM items WHERE queue = %(queue)s AND id = ANY (ARRAY({_first(_FREE)})) RETURNING {ITEM}",
            limit=limit,
        )
        self._count("acknowledged", len(items))
        return items

    def acknowledge(self, items: Sequence[QueueItem]) -> set[int]:
        ours = self._ids(f"DELETE FROM items WHERE {_CHOSEN} RETURNING id", **_chosen(items))
        self._count("acknowledged", len(ours))
        return ours

    def release(self, items: Sequence[QueueItem], release: Release) -> set[int]:
        return self._release(_CHOSEN, release, **_chosen(items))

    def release_expired(self, release: Release) -> int:
        lost = f"queue = %(queue)s AND id = ANY (ARRAY({_first(_EXPIRED, 'lease_until')}))"
        return len(self._release(lost, release, limit=None))

    def _release(self, condition: str, release: Release, **values: object) -> set[int]:
        return self._ids(
            f"UPDATE items SET status = CASE WHEN attempts >= %(most)s THEN 'dead' ELSE 'pending' END, "
            "reason = %(reason)s, available_at = %(available_at)s, lease_until = NULL, token = NULL "
            f"WHERE {condition} RETURNING id",
            most=release.max_attempts,
            reason=_escaped(release.reason),
            available_at=release.available_at,
            **values,
        )

    def unclaim(self, items: Sequence[QueueItem]) -> set[int]:
        return self._ids(
            f"UPDATE items SET status = 'pending', attempts = attempts - 1, lease_until = NULL, token = NULL "
            f"WHERE {_CHOSEN} RETURNING id",
            **_chosen(items),
        )

    def extend(self, items: Sequence[QueueItem], until: datetime) -> set[int]:
        query = f"UPDATE items SET lease_until = %(until)s WHERE {_CHOSEN} RETURNING id"
        return self._ids(query, until=until, **_chosen(items))

    def revive(self) -> int:
        return self._do(
            "UPDATE items SET status = 'pending', attempts = 0, available_at = NULL "
            "WHERE queue = %(queue)s AND status = 'dead'"
        )

    def purge(self, status: str | None) -> int:
        gone = self._do(
            "DELETE FROM items WHERE queue = %(queue)s AND (%(status)s::text IS NULL OR status = %(status)s)",
            status=status,
        )
        self._count("purged", gone)
        return gone

    def first_time(self, key: str) -> bool:
        query = "INSERT INTO batches VALUES (%(queue)s, %(key)s) ON CONFLICT DO NOTHING"
        return bool(self._do(query, key=digest(key)))

    def known(self, keys: Sequence[str]) -> set[int]:
        return self._ids(
            "SELECT place - 1 "
            "FROM unnest(string_to_array(%(given)s, ',')::uuid[]) WITH ORDINALITY AS given (key, place) "
            "JOIN keys USING (key) WHERE queue = %(queue)s",
            given=_joined(digest(key) for key in keys),
        )

    def remember(self, keys: Sequence[str]) -> list[int]:
        query = "UPDATE queues SET keys = keys + %(new)s WHERE id = %(queue)s RETURNING keys"
        before = int(self._one(query, new=len(keys))) - len(keys)
        new = self._ids(
            "INSERT INTO keys (queue, key, number) SELECT %(queue)s, key, %(before)s + min(place) - 1 "
            "FROM unnest(string_to_array(%(given)s, ',')::uuid[]) WITH ORDINALITY AS given (key, place) GROUP BY key "
            "ON CONFLICT DO NOTHING RETURNING number",
            before=before,
            given=_joined(digest(key) for key in keys),
        )
        if store.forgets(before, len(keys)):
            oldest = before - store.KEYS_REMEMBERED
            self._do("DELETE FROM keys WHERE queue = %(queue)s AND number < %(oldest)s", oldest=oldest)
        return sorted(number - before for number in new)

    def bookmark(self, name: str) -> str | None:
        query = "SELECT (SELECT text FROM bookmarks WHERE queue = %(queue)s AND key = %(key)s)"
        text: str | None = self._one(query, key=digest(name))
        return None if text is None else _unescaped(text)

    def set_bookmark(self, name: str, text: str) -> None:
        self._do(
            "INSERT INTO bookmarks VALUES (%(queue)s, %(key)s, %(name)s, %(text)s) "
            "ON CONFLICT (queue, key) DO UPDATE SET text = excluded.text",
            key=digest(name),
            name=_escaped(name),
            text=_escaped(text),
        )

    def companion(self, name: str) -> bytes | None:
        query = "SELECT (SELECT content FROM companions WHERE queue = %(queue)s AND name = %(name)s)"
        found: bytes | None = self._one(query, name=name)
        return found

    def set_companion(self, name: str, content: bytes) -> None:
        self._do(
            "INSERT INTO companions VALUES (%(queue)s, %(name)s, %(content)s) "
            "ON CONFLICT (queue, name) DO UPDATE SET content = excluded.content",
            name=name,
            content=content,
        )

    def stats(self) -> QueueStats:
        """The size is that of the items' texts: the tables are shared."""
        row = self._connection.execute(
            "SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'claimed'), "
            f"count(*) FILTER (WHERE {_EXPIRED}), count(*) FILTER (WHERE status = 'dead'), "
            f"(SELECT added FROM queues WHERE id = %(queue)s), "
            f"(SELECT acknowledged FROM counters WHERE queue = %(queue)s), "
            f"(SELECT purged FROM counters WHERE queue = %(queue)s), "
            "min(created_at) FILTER (WHERE status = 'pending'), "
            "coalesce(sum(octet_length(payload) + octet_length(metadata)), 0)::bigint "
            f"FROM items WHERE queue = %(queue)s",
            self._values({}),
        ).fetchone()
        *figures, oldest, size = row or ()
        return QueueStats(*[*figures, in_utc(oldest), size])

    def _count(self, counter: str, number: int) -> None:
        """Last in a transaction: until its end the others wait who count."""
        if number:
            query = f"UPDATE counters SET {counter} = {counter} + %(number)s WHERE queue = %(queue)s"
            self._do(query, number=number)

    def _do(self, query: str, **values: object) -> int:
        return self._connection.execute(query.encode(), self._values(values)).rowcount

    def _one(self, query: str, **values: object) -> Any:
        ((value,),) = self._connection.execute(query.encode(), self._values(values)).fetchall()
        return value

    def _ids(self, query: str, **values: object) -> set[int]:
        return {number for (number,) in self._connection.execute(query.encode(), self._values(values)).fetchall()}

    def _items(self, query: str, **values: object) -> list[QueueItem]:
        rows = self._connection.execute(query.encode(), self._values(values)).fetchall()
        rows.sort()
        return [
            item_of((*row[:_REASON], row[_REASON] and _unescaped(row[_REASON]), *row[_REASON + 1 :])) for row in rows
        ]

    def _values(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"queue": self._queue, "now": self._now, **more}


def _first(condition: str, order: str = IN_LINE) -> str:
    """In the order of the index that finds them."""
    return f"SELECT id FROM items WHERE {condition} ORDER BY {order} LIMIT %(limit)s FOR UPDATE SKIP LOCKED"


def _chosen(items: Sequence[QueueItem]) -> dict[str, Any]:
    return {"ids": _joined(str(item.id) for item in items), "tokens": _joined(item.token or "" for item in items)}


def _joined(words: Iterable[str]) -> str:
    """Numbers and hexadecimal digits as one text: a list of many is slow to be made one of PostgreSQL's."""
    return ",".join(words)


def _escaped(text: str) -> str:
    """PostgreSQL's texts hold every character but one."""
    return text.replace("\\", "\\\\").replace("\0", "\\0")


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else found[1], text)
