"""From messages to columns: a batch in, a record batch and the rejected messages out. Nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import pyarrow as pa

from jetstream_pipeline.events.messages import AT_ONCE, Messages
from jetstream_pipeline.events.schema import COMMIT, EVENT_SCHEMA, NO_EVENTS
from jetstream_pipeline.events.sound import Doubtful, sound_events
from jetstream_pipeline.events.surrogates import masked, masked_only_in, original
from jetstream_pipeline.events.wires import MAX_TIME_US, Fields, Notice, Wire, read_v1, read_v2

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""A larger message goes to quarantine: the network's own limit for a record is a quarter of this."""

CLOCK_SLACK_US = 3_600_000_000
"""How far a host's clock may run ahead of ours before its times are taken for errors."""

_PARTS = 8
"""That messages among which one is not sound are taken in."""
_ALONE = 64
"""Messages of which each is taken alone where one of them is not sound."""
_CUTS = 16
"""Messages of a batch that are cut out of it, one by one, where it is known that they are not sound."""
_REASON_CHARS = 300
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_READ = {Wire.V1: read_v1, Wire.V2: read_v2}


@dataclass(frozen=True)
class Rejected:
    """A message that is no event: its bytes, why, and after how many events of its batch it came."""

    message: bytes
    reason: str
    after: int


@dataclass(frozen=True)
class Decoded:
    """The events of a batch, in the order received; what could not be read; what the host said besides."""

    events: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    notices: tuple[Notice, ...] = ()


_Row = tuple[object, ...]


def decode(messages: Sequence[bytes], host: str, latest_us: int = MAX_TIME_US, wire: Wire = Wire.V1) -> Decoded:
    """Read JSON messages, one event each, into `EVENT_SCHEMA`. Never raises for what a message holds.

    An event of a time after `latest_us` (unix microseconds) cannot have been witnessed and is rejected.
    """
    together = Messages.of(messages)
    parts = [
        part
        for start in range(0, len(together), AT_ONCE)
        for part in _decoded(together[start : start + AT_ONCE], host, latest_us, wire, _CUTS)
    ]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[Decoded]) -> Decoded:
    rejected: list[Rejected] = []
    notices: list[Notice] = []
    events = 0
    for part in parts:
        rejected += [replace(one, after=one.after + events) for one in part.rejected]
        notices += part.notices
        events += part.events.num_rows
    return Decoded(pa.concat_batches([NO_EVENTS, *(part.events for part in parts)]), tuple(rejected), tuple(notices))


def _decoded(messages: Messages, host: str, latest_us: int, wire: Wire, cuts: int) -> Iterator[Decoded]:
    """The messages by the fast road, but for those around one that is not sound."""
    doubtful: int | None = None
    if messages.lengths.max() <= MAX_EVENT_BYTES:
        try:
            yield Decoded(sound_events(messages, host, latest_us, wire), ())
        except Doubtful as doubt:
            doubtful = doubt.place
        else:
            return
    if len(messages) <= _ALONE:
        yield decode_each(messages, host, latest_us, wire)
        return
    if doubtful is not None and cuts:
        places = [0, doubtful, doubtful + 1, len(messages)]
    else:
        places = [*range(0, len(messages), -(-len(messages) // _PARTS)), len(messages)]
    for start, end in pairwise(places):
        if start < end:
            yield from _decoded(messages[start:end], host, latest_us, wire, cuts - 1 if cuts else 0)


def decode_each(messages: Sequence[bytes], host: str, latest_us: int = MAX_TIME_US, wire: Wire = Wire.V1) -> Decoded:
    """What `decode` does, message by message: what it falls back on, and is held against."""
    rows: list[_Row] = []
    rejected: list[Rejected] = []
    notices: list[Notice] = []
    for message in messages:
        try:
            row = _row(message, latest_us, wire)
        except (ValueError, RecursionError) as error:
            rejected.append(Rejected(message, _reason(error), len(rows)))
        else:
            if isinstance(row, Notice):
                notices.append(row)
            else:
                rows.append(row)
    columns = zip(*rows, strict=True) if rows else ([] for _ in EVENT_SCHEMA.names[:-1])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=False)]
    arrays.append(pa.array([host] * len(rows), pa.string()))
    return Decoded(pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA), tuple(rejected), tuple(notices))


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    reason = str(error)
    # Texts of strangers may be quoted in it.
    shown = reason if reason.isprintable() else repr(reason)[1:-1]
    return shown if len(shown) <= _REASON_CHARS else f"{shown[:_REASON_CHARS]}…"


def _row(message: bytes, latest_us: int, wire: Wire) -> _Row | Notice:
    if len(message) > MAX_EVENT_BYTES:
        raise ValueError(f"larger than {MAX_EVENT_BYTES} bytes")
    if message.startswith(_ZSTD_MAGIC):
        raise ValueError("a zstd frame that does not become an event: broken, or too large")
    message.decode()
    try:
        fields, read = _READ[wire](message), message
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        read = masked(message)
        if read == message:
            raise
        fields = _READ[wire](read)
    if isinstance(fields, Notice):
        return fields
    if fields.time_us > latest_us:
        raise ValueError("a time in the future")
    return _columns(fields, read, message)


def _columns(fields: Fields, read: bytes, message: bytes) -> _Row:
    """One event's values in the order of `EVENT_SCHEMA`, without the host."""
    body = None if fields.body is None else original(fields.body, read, message)
    if read is not message and not masked_only_in(body or b"", read, message):
        raise ValueError("a lone surrogate outside of the record")
    record, payload = (body, None) if fields.kind == COMMIT else (None, body)
    return (
        fields.time_us,
        fields.seq,
        fields.did,
        fields.kind,
        fields.operation,
        fields.collection,
        fields.rkey,
        fields.rev,
        fields.cid,
        record,
        payload,
    )
