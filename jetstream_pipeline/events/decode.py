"""From v1 messages to columns: a batch in, a record batch and the rejected messages out. Nothing is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import pyarrow as pa

from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, EVENT_SCHEMA, IDENTITY, SYNC

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""A larger message goes to quarantine: the network's own limit for a record is a quarter of this."""

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""An escape in JSON text: a pair of surrogates, a lone one (the group), or any other."""
_MAX_TIME_US = 253_402_300_799_999_999  # the last microsecond of the year 9999

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Commit(msgspec.Struct):
    rev: _Text
    operation: Literal["create", "update", "delete"]
    collection: _Text
    rkey: _Text
    record: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    cid: str | None = None


class _Message(msgspec.Struct):
    did: _Text
    time_us: Annotated[int, msgspec.Meta(ge=0, le=_MAX_TIME_US)]
    kind: Literal["commit", "identity", "account", "sync"]
    cursor: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    commit: _Commit | None = None
    identity: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    account: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    sync: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Message)


@dataclass(frozen=True)
class Rejected:
    """A message that is no event: its bytes, why, and after how many events of its batch it came."""

    message: bytes
    reason: str
    after: int


@dataclass(frozen=True)
class Decoded:
    """The events of a batch, in the order received, and what could not be read."""

    events: pa.RecordBatch
    rejected: tuple[Rejected, ...]


_Row = tuple[object, ...]


def decode(messages: Sequence[bytes], host: str, latest_us: int = _MAX_TIME_US) -> Decoded:
    """Read v1 JSON messages, one event each, into `EVENT_SCHEMA`. Never raises for what a message holds.

    An event of a time after `latest_us` (unix microseconds) cannot have been witnessed and is rejected.
    """
    rows: list[_Row] = []
    rejected: list[Rejected] = []
    for message in messages:
        try:
            rows.append(_row(message, latest_us))
        except (ValueError, RecursionError) as error:
            rejected.append(Rejected(message, _reason(error), len(rows)))
    columns = zip(*rows, strict=True) if rows else ([] for _ in EVENT_SCHEMA.names[:-1])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=False)]
    arrays.append(pa.array([host] * len(rows), pa.string()))
    return Decoded(pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA), tuple(rejected))


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)


def _row(message: bytes, latest_us: int) -> _Row:
    if len(message) > MAX_EVENT_BYTES:
        raise ValueError(f"larger than {MAX_EVENT_BYTES} bytes")
    message.decode()
    try:
        event, read = _decoder.decode(message), message
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        read = _masked(message)
        if read == message:
            raise
        event = _decoder.decode(read)
    if event.time_us > latest_us:
        raise ValueError("a time in the future")
    return _columns(event, read, message)


def _masked(text: bytes) -> bytes:
    """The text with U+FFFD for each lone surrogate, byte for byte in place: the decoder refuses those."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)


def _columns(event: _Message, read: bytes, message: bytes) -> _Row:
    """One event's values in the order of `EVENT_SCHEMA`, without the host.

    `read` is what was decoded: `message`, or the same with lone surrogates masked, byte for byte in place.
    """
    if event.kind == COMMIT:
        commit = event.commit
        if commit is None:
            raise ValueError("a commit without `commit`")
        record = None
        if commit.operation != "delete":
            record = _original(commit.record, read, message, "record")
            if not commit.cid:
                raise ValueError(f"a {commit.operation} without `cid`")
        row: _Row = (
            event.time_us,
            event.cursor,
            event.did,
            COMMIT,
            commit.operation,
            commit.collection,
            commit.rkey,
            commit.rev,
            None if commit.operation == "delete" else commit.cid,
            record,
            None,
        )
    else:
        body = {IDENTITY: event.identity, ACCOUNT: event.account, SYNC: event.sync}[event.kind]
        payload = _original(body, read, message, event.kind)
        row = (event.time_us, event.cursor, event.did, event.kind, *(None,) * 6, payload)
    if read is not message and not _masked_only_in(row, read, message):
        raise ValueError("a lone surrogate outside of the record")
    return row


def _original(raw: msgspec.Raw | msgspec.UnsetType, read: bytes, message: bytes, name: str) -> bytes:
    """The bytes of `message` that `raw`, a view into `read`, was taken from."""
    if isinstance(raw, msgspec.UnsetType):
        raise ValueError(f"no `{name}`")
    text = bytes(raw)
    if not text.startswith(b"{"):
        raise ValueError(f"`{name}` is not an object")
    if read is message:
        return text
    start = pa.py_buffer(raw).address - pa.py_buffer(read).address
    return message[start : start + len(text)]


def _masked_only_in(row: _Row, read: bytes, message: bytes) -> bool:
    """Whether every masked place lies in the text that the row keeps as received."""
    kept = next(value for value in reversed(row) if isinstance(value, bytes))
    differing = sum(a != b for a, b in zip(read, message, strict=True))
    return differing == sum(a != b for a, b in zip(_masked(kept), kept, strict=True))
