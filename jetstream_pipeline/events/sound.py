"""The fast road from messages to columns: many at once, where every one of them is a sound event.

It takes nothing that `wires` does not take message by message, and makes the same columns of it; at the first doubt it
takes nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.compiled import IS_COMPILED
from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.events.octets import offsets, strings
from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, DELETE, EVENT_SCHEMA, IDENTITY, SYNC
from jetstream_pipeline.events.usual import Unusual, usual_events
from jetstream_pipeline.events.wires import (
    ERROR,
    Commit,
    V1Message,
    V2Account,
    V2Commit,
    V2Identity,
    V2Sync,
    Wire,
)

_COMMIT = ("rev", "operation", "collection", "rkey", "record", "cid")
_KEPT = ("record", "payload", "host")
_V2_KINDS: dict[type, str] = {V2Commit: COMMIT, V2Identity: IDENTITY, V2Account: ACCOUNT, V2Sync: SYNC}
_NO_COMMIT = Commit(*(None,) * 4)  # type: ignore[arg-type]
_BYTE = re.compile(r"\(byte (\d+)\)$")
_LINE = re.compile(r"`\$\[(\d+)\]")
_Values = dict[str, Sequence[Any] | pa.Array]
"""A batch's values by column; under `payload` what has them by their kind."""


class Doubtful(Exception):
    """Something among the messages is to be looked at alone; `place`: most likely in which of them."""

    def __init__(self, reason: str, place: int | None = None) -> None:
        super().__init__(reason)
        self.place = place


class _V2Frame(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type")
    payload: V2Commit | V2Identity | V2Account | V2Sync
    error: str = ""
    message: str = ""


_v1 = msgspec.json.Decoder(V1Message)
_v2 = msgspec.json.Decoder(_V2Frame)


def sound_events(messages: Messages, host: str, latest_us: int, wire: Wire) -> pa.RecordBatch:
    """The messages as events of `EVENT_SCHEMA`, in order; Doubtful where one of them may be none, or is of a time after
    `latest_us` (unix microseconds)."""
    try:
        _check_shape(messages)
        events = _usual(messages, host, wire)
        if events is None:
            values = _v1_values(messages) if wire is Wire.V1 else _v2_values(messages)
            events = _events(values, host)
        times = events["time_us"].to_numpy()
        if times.min() < 0 or times.max() > latest_us:
            raise Doubtful("a value out of its range")
        return events
    except (ValueError, RecursionError) as error:
        raise Doubtful(str(error), _place(str(error), messages)) from error


def _usual(messages: Messages, host: str, wire: Wire) -> pa.RecordBatch | None:
    """The messages as events, where all are spelled as usual."""
    if not IS_COMPILED:
        return None
    try:
        return usual_events(messages, host, wire)
    except Unusual as unusual:
        if unusual.place is not None:
            raise Doubtful(str(unusual), unusual.place) from unusual
        return None


def _place(error: str, messages: Messages) -> int | None:
    """Which message msgspec means, as far as it says so."""
    if found := _BYTE.search(error):
        place = int(np.searchsorted(messages.ends, messages.starts[0] + int(found[1])))
    elif found := _LINE.search(error):
        place = int(found[1])
    else:
        return None
    return place if place < len(messages) else None


def _v1_values(messages: Messages) -> _Values:
    events = _lines(messages, _v1)
    commits = [event.commit or _NO_COMMIT for event in events]
    seqs = [event.cursor for event in events]
    return _of(events, "did", "time_us", "kind") | _of(commits, *_COMMIT) | {"seq": seqs, "payload": events}


def _v2_values(messages: Messages) -> _Values:
    frames = _lines(messages, _v2)
    if any(frame.type == ERROR for frame in frames):
        raise Doubtful("what a host says of the stream")
    events = [frame.payload for frame in frames]
    kinds = [_V2_KINDS[type(event)] for event in events]
    commits = [event if type(event) is V2Commit else _NO_COMMIT for event in events]
    times = pa.array([event.time for event in events], pa.timestamp("us", "UTC")).cast(pa.int64())
    return _of(events, "did", "seq") | _of(commits, *_COMMIT) | {"kind": kinds, "time_us": times, "payload": events}


def _of(rows: Sequence[Any], *names: str) -> _Values:
    """Values by name. Rows made tuples first would be a task for the garbage collector."""
    return {name: list(map(attrgetter(name), rows)) for name in names}


def _lines(messages: Messages, decoder: msgspec.json.Decoder[Any]) -> list[Any]:
    """Each message decoded; all of them are UTF-8.

    Where every message begins and ends as an object does, none goes on in the next one, since no text in JSON has a
    line break; and where there are as many objects as messages, none has two.
    """
    lines = decoder.decode_lines(messages.text.data)
    if len(lines) != len(messages):
        raise Doubtful("two objects in one message")
    return lines


def _check_shape(messages: Messages) -> None:
    """All are UTF-8, and each begins and ends as an object does."""
    octets = messages.memory
    if not messages.lengths.all() or (octets[messages.starts] != ord("{")).any():
        raise Doubtful("a message that does not begin as an object does")
    if (octets[messages.ends - 1] != ord("}")).any():
        raise Doubtful("a message that does not end as an object does")
    text = messages.text
    pa.StringArray.from_buffers(1, pa.py_buffer(offsets([len(text)])), pa.py_buffer(text)).validate(full=True)


def _events(values: _Values, host: str) -> pa.RecordBatch:
    columns = {
        field.name: pa.array(values[field.name], field.type) for field in EVENT_SCHEMA if field.name not in _KEPT
    }
    is_commit = _mask(pc.equal(columns["kind"], COMMIT))
    keeps_record = is_commit & ~_mask(pc.fill_null(pc.equal(columns["operation"], DELETE), True))
    # What else a commit has is there where its revision is.
    for wanted, name in ((is_commit, "rev"), (keeps_record, "cid")):
        if not _is_there(columns[name], wanted):
            raise Doubtful("a part that is missing, or is not of its event")
    columns["record"] = _texts(values["record"], np.arange(len(is_commit)), keeps_record)
    columns["payload"] = _texts(_payloads(values, is_commit), np.flatnonzero(~is_commit), ~is_commit)
    columns["host"] = pa.repeat(pa.scalar(host, pa.string()), len(is_commit))
    return pa.RecordBatch.from_arrays([columns[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def _mask(condition: pa.BooleanArray) -> np.ndarray:
    mask: np.ndarray = condition.to_numpy(zero_copy_only=False)
    return mask


def _is_there(column: pa.StringArray, wanted: np.ndarray) -> bool:
    """Whether there is text in these rows, and null in all others."""
    lengths = np.diff(np.frombuffer(column.buffers()[1], np.int32)[: len(column) + 1])
    return bool(((lengths > 0) == wanted).all()) and column.null_count == len(column) - np.count_nonzero(wanted)


def _payloads(values: _Values, is_commit: np.ndarray) -> list[msgspec.Raw]:
    """The body of each event that is not a commit."""
    events, kinds = values["payload"], values["kind"]
    return [getattr(events[row], kinds[row]) for row in np.flatnonzero(~is_commit).tolist()]


def _texts(bodies: Sequence[msgspec.Raw], rows: np.ndarray, wanted: np.ndarray) -> pa.Array:
    """JSON objects as received, in these rows: in those that are wanted, and null in all others."""
    text = np.frombuffer(b"".join(bodies), np.uint8)
    lengths = np.zeros(len(wanted), np.int32)
    lengths[rows] = np.fromiter(map(len, bodies), np.int32, len(bodies))
    if not ((lengths > 0) == wanted).all():
        raise Doubtful("a body that is missing, or is not of its event")
    if not (text[offsets(lengths)[:-1][wanted]] == ord("{")).all():
        raise Doubtful("a body that is not an object")
    return strings(lengths, text, wanted)
