"""The tables that queues have in a PostgreSQL database, and how they come to be. What is in them belongs to `rows`.

`jetstream_queues.items` is for people too. Times are UTC.
"""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg

SCHEMA = "jetstream_queues"
IN_LINE = "id + 0"
"""The order of items, which but for the index of the pending ones nothing gives: else the planner may take the primary
key's, and pass over all that is dead or claimed."""
_MAKING = 0x6A657473
"""The lock of who makes the tables."""

_COMING_AND_GOING = (
    "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, "
    "autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0"
)
"""Rows live for seconds: what the dead leave behind is swept soon and at full speed, or the files would grow."""
_REWRITTEN = "fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000"
"""Few rows that change all the time: each new version finds room on its own page."""

_TABLES = f"""
CREATE TABLE queues (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL UNIQUE,
    next_id bigint NOT NULL DEFAULT 1, added bigint NOT NULL DEFAULT 0, keys bigint NOT NULL DEFAULT 0)
    WITH ({_REWRITTEN});
CREATE TABLE counters (queue integer PRIMARY KEY, acknowledged bigint NOT NULL DEFAULT 0,
    purged bigint NOT NULL DEFAULT 0) WITH ({_REWRITTEN});
CREATE TABLE items (queue integer, id bigint, payload text NOT NULL, metadata text NOT NULL,
    created_at timestamp NOT NULL, status text NOT NULL DEFAULT 'pending', attempts integer NOT NULL DEFAULT 0,
    available_at timestamp, lease_until timestamp, reason text, token text, PRIMARY KEY (queue, id))
    WITH ({_COMING_AND_GOING});
CREATE INDEX items_pending ON items (queue, ({IN_LINE})) WHERE status = 'pending';
CREATE INDEX items_claimed ON items (queue, lease_until) WHERE status = 'claimed';
CREATE TABLE keys (queue integer, key uuid, number bigint NOT NULL, PRIMARY KEY (queue, key))
    WITH ({_COMING_AND_GOING});
CREATE INDEX keys_number ON keys (queue, number);
CREATE TABLE batches (queue integer, key uuid, PRIMARY KEY (queue, key));
CREATE TABLE bookmarks (queue integer, key uuid, name text NOT NULL, text text NOT NULL,
    PRIMARY KEY (queue, key)) WITH (fillfactor = 50);
CREATE TABLE companions (queue integer, name text, content bytea NOT NULL, PRIMARY KEY (queue, name));
ALTER TABLE companions ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE TABLE receipts (client uuid PRIMARY KEY, number bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()) WITH ({_REWRITTEN});
CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql SET search_path = {SCHEMA} AS $$ BEGIN
    DELETE FROM items WHERE queue = OLD.id;
    DELETE FROM counters WHERE queue = OLD.id;
    DELETE FROM keys WHERE queue = OLD.id;
    DELETE FROM batches WHERE queue = OLD.id;
    DELETE FROM bookmarks WHERE queue = OLD.id;
    DELETE FROM companions WHERE queue = OLD.id;
    RETURN OLD;
END $$;
CREATE TRIGGER forget AFTER DELETE ON queues FOR EACH ROW EXECUTE FUNCTION forget();
"""  # noqa: S608 - constants

Connection = psycopg.Connection[tuple[Any, ...]]


def exists(connection: Connection) -> bool:
    """Whether the tables are there; all of them are made at once. Raises where they may not be used."""
    found = _any(connection, "SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'queues'")
    if found:
        # Without the schema's name, which may be closed to us, the answer would be that there is no such table.
        connection.execute(f"SELECT FROM {SCHEMA}.queues LIMIT 0")
    return found


def make(connection: Connection) -> None:
    """Make the tables, in the transaction that the connection is in, unless they are there or are made meanwhile."""
    if exists(connection):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MAKING])
    if not _any(connection, "SELECT FROM pg_namespace WHERE nspname = %s"):
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
    if not exists(connection):
        connection.execute(_TABLES.encode())


def _any(connection: Connection, query: LiteralString) -> bool:
    return connection.execute(query, [SCHEMA]).fetchone() is not None
