"""What an archive stores of an event's content: DAG-CBOR.

Where it lies in a file belongs to `blocks`.
"""

from __future__ import annotations

import msgspec

from jetstream_pipeline.simulator.event import SimulatedEvent
from jetstream_pipeline.simulator.foreign import HALF_A_PAIR, LONE_SURROGATE
from jetstream_pipeline.simulator.identifiers import dag_cbor

_read_json = msgspec.json.Decoder().decode


def payload(event: SimulatedEvent) -> bytes:
    """A commit's record, or the upstream's identity or account event; empty for a deletion."""
    text = stored(event).record_json if event.kind == "commit" else event.payload_json
    return b"" if text is None else dag_cbor(_read_json(text))


def stored(event: SimulatedEvent) -> SimulatedEvent:
    """The event as an archive tells it: where a stream spells a lone surrogate, which no CBOR can hold, it has
    U+FFFD."""
    if event.record_json is None or HALF_A_PAIR not in event.record_json:
        return event
    return msgspec.structs.replace(
        event,
        record_json=event.record_json.replace(HALF_A_PAIR, LONE_SURROGATE),
        message=event.message.replace(HALF_A_PAIR.encode(), LONE_SURROGATE.encode()),
    )
