"""The shapes of an event on both of Jetstream's stream wires, and the one row that either becomes, message by message.

What is wholly sound comes by `sound` instead, many messages at once; whether a message is an event is said here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, DELETE, IDENTITY, SYNC

MAX_TIME_US = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""

_V2_TYPE = "network.bsky.jetstream.subscribeEvents"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Text = Annotated[str, msgspec.Meta(min_length=1)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Operation = Literal["create", "update", "delete"]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
ERROR = "error"
"""The type of a v2 frame that ends the stream."""
NOTHING = msgspec.Raw(b"")
"""Where a message has no such part."""


class Wire(StrEnum):
    """How a host is spoken to."""

    V1 = "v1"
    V2 = "v2"


ARCHIVE = "archive"
"""What stands for a wire where rows came from a host's archive."""


class Fields(msgspec.Struct):
    """An event's values in the order of `EVENT_SCHEMA`; `body` is what becomes `record` or `payload`."""

    time_us: int
    seq: int | None
    did: str
    kind: str
    operation: str | None = None
    collection: str | None = None
    rkey: str | None = None
    rev: str | None = None
    cid: str | None = None
    body: msgspec.Raw | None = None


class Notice(msgspec.Struct, frozen=True):
    """What a v2 host says about the stream itself: a name, a sentence, and whether the stream ends with it."""

    name: str
    message: str
    ends: bool


class Commit(msgspec.Struct, gc=False):
    rev: Text
    operation: Operation
    collection: Text
    rkey: Text
    record: msgspec.Raw = NOTHING
    cid: str | None = None


class V1Message(msgspec.Struct, gc=False):
    did: Text
    time_us: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_US)]
    kind: Literal["commit", "identity", "account", "sync"]
    cursor: Seq | None = None
    commit: Commit | None = None
    identity: msgspec.Raw = NOTHING
    account: msgspec.Raw = NOTHING
    sync: msgspec.Raw = NOTHING


class _V2Event(msgspec.Struct, gc=False, tag_field="$type"):
    did: Text
    seq: Seq
    time: Moment

    @property
    def time_us(self) -> int:
        return (self.time - _EPOCH) // _MICROSECOND


class V2Commit(_V2Event, gc=False, tag=f"{_V2_TYPE}#commit"):
    rev: Text
    operation: Operation
    collection: Text
    rkey: Text
    record: msgspec.Raw = NOTHING
    cid: str | None = None


class V2Identity(_V2Event, gc=False, tag=f"{_V2_TYPE}#identity"):
    identity: msgspec.Raw


class V2Account(_V2Event, gc=False, tag=f"{_V2_TYPE}#account"):
    account: msgspec.Raw


class V2Sync(_V2Event, gc=False, tag=f"{_V2_TYPE}#sync"):
    sync: msgspec.Raw


class _V2Info(msgspec.Struct):
    """Any payload that is no event: `#info`, or one that a later server knows."""

    type: str = msgspec.field(default="", name="$type")
    name: str = ""
    message: str = ""
    seq: int | None = None


class _V2Frame(msgspec.Struct):
    type: str = msgspec.field(name="$type")
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    error: str = ""
    message: str = ""


_V2_EVENT_TYPES = ("", *(f"{_V2_TYPE}#{kind}" for kind in (COMMIT, IDENTITY, ACCOUNT, SYNC)))

_v1 = msgspec.json.Decoder(V1Message)
_v2_frame = msgspec.json.Decoder(_V2Frame)
_v2_event = msgspec.json.Decoder(V2Commit | V2Identity | V2Account | V2Sync)
_v2_info = msgspec.json.Decoder(_V2Info)


def read_v1(text: bytes) -> Fields:
    """One v1 message. ValueError says why it is no event."""
    event = _v1.decode(text)
    fields = Fields(event.time_us, event.cursor, event.did, event.kind)
    if event.kind == COMMIT:
        if event.commit is None:
            raise ValueError("a commit without `commit`")
        return _with_commit(fields, event.commit)
    return _with_body(fields, {IDENTITY: event.identity, ACCOUNT: event.account, SYNC: event.sync}[event.kind])


def read_v2(text: bytes) -> Fields | Notice:
    """One v2 frame: an event, or what the host says of the stream. ValueError says why it is neither."""
    frame = _v2_frame.decode(text)
    if frame.type == ERROR:
        return Notice(frame.error, frame.message, ends=True)
    try:
        event = _v2_event.decode(frame.payload)
    except msgspec.ValidationError:
        return _notice(frame.payload)
    if event.time_us < 0:
        raise ValueError("a time before 1970")
    match event:
        case V2Commit():
            return _with_commit(Fields(event.time_us, event.seq, event.did, COMMIT), event)
        case V2Identity():
            kind, body = IDENTITY, event.identity
        case V2Account():
            kind, body = ACCOUNT, event.account
        case V2Sync():
            kind, body = SYNC, event.sync
    return _with_body(Fields(event.time_us, event.seq, event.did, kind), body)


def _notice(payload: msgspec.Raw) -> Notice:
    """What a payload says that is no event as we know them. One that should be an event by its type, or has a sequence
    number, is none that says something: the error that made it unreadable is raised again."""
    info = _v2_info.decode(payload)
    if info.type in _V2_EVENT_TYPES or info.seq is not None:
        _v2_event.decode(payload)
    return Notice(info.name, info.message, ends=False)


def _with_commit(fields: Fields, commit: Commit | V2Commit) -> Fields:
    fields.operation, fields.collection = commit.operation, commit.collection
    fields.rkey, fields.rev = commit.rkey, commit.rev
    if commit.operation == DELETE:
        return fields
    if not commit.cid:
        raise ValueError(f"a {commit.operation} without `cid`")
    fields.cid = commit.cid
    return _with_body(fields, commit.record)


def _with_body(fields: Fields, body: msgspec.Raw) -> Fields:
    name = "record" if fields.kind == COMMIT else fields.kind
    if not body:
        raise ValueError(f"no `{name}`")
    if not bytes(body).startswith(b"{"):
        raise ValueError(f"`{name}` is not an object")
    fields.body = body
    return fields
