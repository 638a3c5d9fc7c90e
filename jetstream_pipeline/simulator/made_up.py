"""What a broken or a hostile stream holds besides the network's events."""

from __future__ import annotations

import json

from jetstream_pipeline.simulator.event import SimulatedEvent, commit_event
from jetstream_pipeline.simulator.identifiers import plain_record_cid, tid, timestamp

_DID = "did:plc:oversizedoversizedoversi"
_COLLECTION = "app.bsky.feed.post"


def post(time_us: int, seq: int, text: str) -> SimulatedEvent:
    """A post that nobody on the network wrote."""
    record = {"$type": _COLLECTION, "createdAt": timestamp(time_us), "text": text}
    written = tid(time_us, 0)
    return commit_event(
        seq=seq,
        time_us=time_us,
        did=_DID,
        rev=written,
        operation="create",
        collection=_COLLECTION,
        rkey=written,
        record_json=json.dumps(record, separators=(",", ":")),
        cid=plain_record_cid(record),
    )


def beginning_of_a_frame(binary: bool) -> bytes:
    """The header of a frame of 120 bytes, and half of them."""
    return bytes((0x82 if binary else 0x81, 120)) + b"{" + b" " * 59
