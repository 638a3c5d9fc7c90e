"""Messages that could not be read, byte for byte. Why a message is none is `events`' to say."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("position_us", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("message", pa.binary(), nullable=False),
    ]
)

QUARANTINE_DESCRIPTIONS: dict[str, str] = {
    "received_at": "When we received it.",
    "host": "The server that sent it.",
    "position_us": "The latest event time seen before it: unix microseconds.",
    "reason": "Why it could not be read.",
    "size": "Its length in bytes.",
    "message": "The message as it came.",
}


def quarantined(
    messages: list[tuple[bytes, str]], *, received_at: datetime, host: str, position_us: int
) -> pa.RecordBatch:
    """Rows for messages and their reasons; `position_us` is the latest event time seen before them."""
    rows = [
        {
            "received_at": received_at,
            "host": host,
            "position_us": position_us,
            "reason": reason,
            "size": len(message),
            "message": message,
        }
        for message, reason in messages
    ]
    return pa.RecordBatch.from_pylist(rows, schema=QUARANTINE_SCHEMA)
