"""Messages that are no events, as the second wire spells them."""

from __future__ import annotations

import json

from jetstream_pipeline.simulator.event import MESSAGE_TYPE


def outdated_cursor(seq: int) -> bytes:
    """The first message of a stream that begins later than asked."""
    message = f"requested timestamp cursor below retention floor; starting at seq {seq}"
    payload = {"$type": f"{MESSAGE_TYPE}#info", "message": message, "name": "OutdatedCursor"}
    return _json({"$type": "message", "payload": payload})


def error_frame(error: str, message: str) -> bytes:
    """The last message of a stream that the server cannot go on with."""
    return _json({"$type": "error", "error": error, **({"message": message} if message else {})})


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
