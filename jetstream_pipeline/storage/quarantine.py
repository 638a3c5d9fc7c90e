"""Messages that could not be read, byte for byte. Why a message is none is `events`' to say."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from jetstream_pipeline.storage.files import replacing
from jetstream_pipeline.storage.hive import ANY_HOUR, hour_folder, hour_of
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.window import Window

NAME = "messages"
"""Of the file of a window's messages."""
FILES = f"{ANY_HOUR}/{NAME}*.parquet"
"""The pattern of the files in a stream's or a queue's folder."""

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("wire", pa.string()),
        pa.field("position_us", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("message", pa.binary(), nullable=False),
    ]
)

QUARANTINE_DESCRIPTIONS: dict[str, str] = {
    "received_at": "When we received it.",
    "host": "The server that sent it.",
    "wire": "How it was spoken to: v1, v2 or archive; null where the message is an event as we write it.",
    "position_us": "The time of the event before it in the stream: unix microseconds.",
    "reason": "Why it could not be read.",
    "size": "Its length in bytes.",
    "message": "The message as it came.",
}


@dataclass(frozen=True)
class Unreadable:
    """A message that is no event: its bytes, why, and the time of the event before it in unix microseconds."""

    message: bytes
    reason: str
    position_us: int


def quarantined(
    messages: Sequence[Unreadable], *, received_at: datetime, host: str, wire: str | None
) -> pa.RecordBatch:
    """The messages as rows of `QUARANTINE_SCHEMA`."""
    rows = [
        {
            "received_at": received_at,
            "host": host,
            "wire": wire,
            "position_us": unreadable.position_us,
            "reason": unreadable.reason,
            "size": len(unreadable.message),
            "message": unreadable.message,
        }
        for unreadable in messages
    ]
    return pa.RecordBatch.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def window_of(path: AnyPath) -> Window | None:
    """The window whose messages a quarantine file holds; None where they are of none: `keep` names it so."""
    return hour_of(path) if path.stem == NAME else None


def count(path: AnyPath) -> int:
    """How many messages a quarantine file holds."""
    with _reading(path) as file:
        return int(file.metadata.num_rows)


def read(path: AnyPath) -> pa.Table:
    """The rows of a quarantine file."""
    with _reading(path) as file:
        rows = file.read()
        if "wire" not in rows.column_names:
            rows = rows.append_column("wire", pa.nulls(rows.num_rows, pa.string()))
        if missing := set(QUARANTINE_SCHEMA.names).difference(rows.column_names):
            raise pa.ArrowInvalid(f"it has no {' and no '.join(sorted(missing))}")
        return rows.select(QUARANTINE_SCHEMA.names).cast(QUARANTINE_SCHEMA)


def rewrite(path: AnyPath, rows: pa.Table) -> None:
    """Replace a quarantine file's rows. A file without any stays: a query that has just listed it still finds it."""
    with _reading(path) as file:
        metadata = file.schema_arrow.metadata
    with replacing(path) as temporary:
        pq.write_table(rows.replace_schema_metadata(metadata), temporary)


def keep(rows: pa.RecordBatch, folder: AnyPath, received_at: datetime) -> AnyPath:
    """Write rows of `QUARANTINE_SCHEMA` that belong to no window into a file of their own below a stream's folder."""
    path = folder / hour_folder(received_at) / f"{NAME}-{received_at:%M%S}-{secrets.token_hex(4)}.parquet"
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_batches([rows]), temporary)
    return path


def _reading(path: AnyPath) -> AbstractContextManager[pq.ParquetFile]:
    """Only a window's messages can be had again."""
    if path.stem == NAME:
        return reading(path)
    return reading(path, "move it elsewhere; its messages are in no other file")
