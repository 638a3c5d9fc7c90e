"""Which records exist now: the fold of a table's operations and of its accounts' changes. The views are `views`'.

Each stream is folded by itself, and what it holds is all that is known: nothing here asks in which order rows came.

A record's last write is the operation with the greatest `rev`, as the host first witnessed it. An account's changes are
ordered by the time that the relay passes on from the account's server, since relays number events each for itself, but
no later than it was first witnessed, so that nobody claims a future that nothing can follow. Equal times go by the
relay's number; a change told again, by whichever relay, is the same one if its time and its meaning are.
"""

from __future__ import annotations

from jetstream_pipeline.sql import literal
from jetstream_pipeline.tables.definitions import TABLES, Table

CURRENT = ("posts", "likes", "follows", "profiles")
"""The tables that have such a view."""

(ACCOUNTS,) = (table for table in TABLES if table.name == "accounts")
"""The table that says what became of accounts."""

_DIFFERENT = {
    "time": "When the host first witnessed the record's last write.",
    "rev": "The revision of the record's last write.",
}
_ACCOUNT_STATUS = (
    "What its account is where it is not active: deactivated, suspended, takendown, …; inactive where nobody said why; "
    "null where it is active, or was never mentioned."
)
_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
_CHARACTERS_OF_TIME = 11
"""A TID's 13 characters are 64 bits, one of them 0; the last two are the clock's 10."""


def current_columns(table: Table) -> dict[str, str]:
    """The columns of a table's view of what exists now, but for the stream, and what they mean."""
    columns = {column.name: column.description for column in table.columns if column.name != "operation"}
    return {**columns, **_DIFFERENT, "account_status": _ACCOUNT_STATUS}


def current_query(table: Table, rows: str, accounts: str) -> str:
    """The records that exist now, one row each, as a SELECT of `current_columns`.

    `rows` and `accounts` may stand in a FROM: a stream's rows of `table`, and those of the table `ACCOUNTS`.
    """
    *columns, status = current_columns(table)
    shown = {column.name: column.shown for column in table.columns if column.shown}
    values = (f"{shown[name]} AS {name}" if name in shown else f"written.{name}" for name in columns)
    return (
        f"SELECT {', '.join(values)}, nullif(standing, '') AS {status}\n"
        f"FROM ({_last_writes(rows)}) AS written\nLEFT JOIN ({_standings(accounts)}) AS account USING (did)\n"
        f"WHERE account.did IS NULL OR (standing <> 'deleted' AND (deleted IS NULL OR ({_SINCE_DELETION})))"
    )


def _last_writes(rows: str) -> str:
    # A window over whole rows is quicker than to find the keys first and join, and lets a condition on `did` through.
    order = "PARTITION BY did, rkey ORDER BY rev DESC, time ASC, seq ASC NULLS LAST, operation ASC"
    numbered = f"SELECT *, row_number() OVER ({order}) AS place FROM {rows}"  # noqa: S608
    return f"SELECT * FROM ({numbered}) WHERE place = 1 AND operation <> 'delete'"  # noqa: S608


def _tid_time(tid: str) -> str:
    """The time in a TID's expression; null where that is none."""
    digits = " + ".join(
        f"(instr({literal(_ALPHABET)}, substr({tid}, {place}, 1)) - 1) * {32 ** (_CHARACTERS_OF_TIME - place)}"
        for place in range(1, _CHARACTERS_OF_TIME + 1)
    )
    return f"CASE WHEN regexp_full_match({tid}, '[2-7a-j][2-7a-z]{{12}}') THEN make_timestamptz({digits}) END"


# Its clock is the account's server's, as is that of `deleted`; `time` and `deletion_seen` are hosts'.
_SINCE_DELETION = f"written.time > deletion_seen AND coalesce({_tid_time('written.rev')} > deleted, true)"


def _changes(accounts: str) -> str:
    """Each change of an account once: what it became, when that happened, and when it was first witnessed."""
    standing = "CASE WHEN active THEN '' ELSE coalesce(nullif(status, ''), 'inactive') END AS standing"
    number = "CASE WHEN upstream_time IS NULL THEN upstream_seq END"
    witnessed = "CASE WHEN upstream_time IS NULL AND upstream_seq IS NULL THEN time END"
    return (
        "SELECT did, standing, min(upstream_seq) AS number, min(time) AS seen, "  # noqa: S608
        "least(upstream_time, min(time)) AS happened\n"
        f"FROM (SELECT *, {standing} FROM {accounts} WHERE active IS NOT NULL)\n"
        f"GROUP BY did, standing, upstream_time, {number}, {witnessed}"
    )


def _standings(accounts: str) -> str:
    """What became of the accounts that are not simply active: `standing`, empty where active; when the last deletion
    happened (`deleted`), and when at the latest it had been seen (`deletion_seen`), both null where there was none.

    A deletion that comes in late was there when what followed it was seen, or it would hide what was written since.
    """
    order = "PARTITION BY did ORDER BY happened ASC, number ASC NULLS FIRST, seen ASC, standing ASC"
    numbered = f"SELECT *, row_number() OVER ({order}) AS place FROM ({_changes(accounts)})"  # noqa: S608
    deletion = "max(place) FILTER (WHERE standing = 'deleted') OVER (PARTITION BY did) AS deletion"
    return (
        "SELECT did, arg_max(standing, place) AS standing, "  # noqa: S608
        "max(happened) FILTER (WHERE place = deletion) AS deleted, "
        "min(seen) FILTER (WHERE place >= deletion) AS deletion_seen\n"
        f"FROM (SELECT *, {deletion} FROM ({numbered}))\n"
        "GROUP BY did HAVING arg_max(standing, place) <> '' OR max(deletion) IS NOT NULL"
    )
