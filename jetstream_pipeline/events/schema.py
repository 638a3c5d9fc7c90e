"""The columns of an event, the same whichever wire it came by. No decoding here."""

from __future__ import annotations

import pyarrow as pa

EVENT_SCHEMA = pa.schema(
    [
        pa.field("time_us", pa.int64(), nullable=False),
        pa.field("seq", pa.int64()),
        pa.field("did", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("operation", pa.string()),
        pa.field("collection", pa.string()),
        pa.field("rkey", pa.string()),
        pa.field("rev", pa.string()),
        pa.field("cid", pa.string()),
        pa.field("record", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("host", pa.string(), nullable=False),
    ]
)

NO_EVENTS = pa.RecordBatch.from_pylist([], EVENT_SCHEMA)

EVENT_DESCRIPTIONS: dict[str, str] = {
    "time_us": "When the host witnessed the event: unix microseconds, as sent.",
    "seq": "The host's sequence number; null on old servers. It has gaps and holds on that host only.",
    "did": "The repository (account) that the event belongs to.",
    "kind": "commit, identity, account or sync.",
    "operation": "create, update or delete; null unless a commit.",
    "collection": "The record's collection (NSID); null unless a commit.",
    "rkey": "The record's key within its collection; null unless a commit.",
    "rev": "The commit's revision (TID), growing per repository; null unless a commit.",
    "cid": "The record's content hash; null unless a create or an update.",
    "record": "The record's JSON text exactly as received; null unless a create or an update.",
    "payload": "The identity, account or sync body's JSON text as received; null for commits.",
    "host": "The server that the event was read from.",
}

COMMIT, IDENTITY, ACCOUNT, SYNC = "commit", "identity", "account", "sync"
DELETE = "delete"
