"""From a block to events: what `events.decode` makes of a stream's messages, of the same events in the archive.

A block is decoded column by column; only payloads are read one by one. A row that is no event is kept as a block of its
own, for a later version to read; what is wrong with the block as a whole is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.archive.cids import CID_CHARS, record_cids
from jetstream_pipeline.archive.columns import TEXTS, Columns
from jetstream_pipeline.archive.errors import DamagedSegment
from jetstream_pipeline.archive.frames import decompressed
from jetstream_pipeline.archive.index import BlockEntry
from jetstream_pipeline.archive.records import TooMuchText, json_bodies, json_records
from jetstream_pipeline.events.decode import MAX_EVENT_BYTES, Rejected
from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, DELETE, EVENT_SCHEMA, IDENTITY, SYNC
from jetstream_pipeline.events.wires import MAX_TIME_US

_UNKNOWN = 8
_KINDS = pa.array(["", COMMIT, COMMIT, COMMIT, IDENTITY, ACCOUNT, SYNC, COMMIT, ""], pa.string())
_OPERATIONS = pa.array([None, "create", "update", DELETE, None, None, None, "create", None], pa.string())
"""By the number of a kind. 7 is a record that the server found while it read a whole repository again."""
_IS_COMMIT = np.isin(np.arange(_UNKNOWN + 1), [1, 2, 3, 7])
_HAS_RECORD = np.isin(np.arange(_UNKNOWN + 1), [1, 2, 7])
_OF_COMMITS = ("collection", "rkey", "rev")
_NO_TEXT = pa.scalar(None, pa.string())
_FROM_HEADS = EVENT_SCHEMA.names[: EVENT_SCHEMA.names.index("cid")]

HEAD_SCHEMA = pa.schema(
    [
        *(EVENT_SCHEMA.field(name) for name in _FROM_HEADS),
        pa.field("witnessed_us", pa.int64(), nullable=False),
    ]
)
"""What is known of an event before its payload is read. `witnessed_us`: unix microseconds, never an imported time."""

Wanted = Callable[[pa.RecordBatch], pa.BooleanArray]
"""Says of rows of `HEAD_SCHEMA` which ones are wanted."""


@dataclass(frozen=True)
class Block:
    """The events of a block, in its order: `events` (`EVENT_SCHEMA`), when the host witnessed each of them (unix
    microseconds), and the rows that are no events."""

    events: pa.RecordBatch
    witnessed_us: pa.Int64Array
    rejected: tuple[Rejected, ...]


def decode_block(
    frame: bytes,
    host: str,
    where: str,
    *,
    entry: BlockEntry | None = None,
    wanted: Wanted | None = None,
    latest_us: int = MAX_TIME_US,
) -> Block:
    """The events of one zstd frame, as a segment holds it and as a host serves it, of which `entry` says what it holds.

    Rows that are not `wanted` are left out, and their payloads not read. An event of a time after `latest_us` (unix
    microseconds) cannot have been witnessed and is rejected. DamagedSegment, which tells `where`, if the block as a
    whole is not what it says.
    """
    columns = Columns.read(decompressed(frame, where, entry.content_bytes if entry else None), where)
    if entry:
        entry.check(columns, where)
    return _decoded(columns, host, where, wanted, latest_us)


def decode_rows(
    content: bytes, host: str, where: str, *, wanted: Wanted | None = None, latest_us: int = MAX_TIME_US
) -> Block:
    """The same for what is not compressed: the message of a `Rejected`, which is the content of a block of one row."""
    return _decoded(Columns.read(content, where), host, where, wanted, latest_us)


def _decoded(columns: Columns, host: str, where: str, wanted: Wanted | None, latest_us: int) -> Block:
    kinds = np.minimum(columns.numbers["kind"], _UNKNOWN)
    heads = _heads(columns, kinds)
    reasons = _unreadable_heads(columns, kinds, heads, latest_us)
    rows = np.delete(np.arange(columns.rows), list(reasons))
    if reasons:
        heads = heads.take(pa.array(rows))
    if wanted:
        chosen = pc.fill_null(wanted(heads), False)
        rows, heads = rows[chosen.to_numpy(zero_copy_only=False)], heads.filter(chosen)
    try:
        bodies, refused = _bodies(columns, kinds, rows)
    except TooMuchText as error:
        raise DamagedSegment(where, str(error)) from None
    events = pa.RecordBatch.from_arrays(
        [*(heads[name] for name in _FROM_HEADS), *bodies, pa.repeat(pa.scalar(host, pa.string()), len(rows))],
        schema=EVENT_SCHEMA,
    )
    witnessed_us = heads["witnessed_us"]
    if refused:
        readable = ~np.isin(rows, list(refused))
        rows, events, witnessed_us = rows[readable], events.filter(readable), witnessed_us.filter(readable)
    unreadable = sorted((reasons | refused).items())
    after = np.searchsorted(rows, [row for row, _ in unreadable]).tolist()
    rejected = (Rejected(columns.alone(row), why, before) for (row, why), before in zip(unreadable, after, strict=True))
    return Block(events, witnessed_us, tuple(rejected))


def _heads(columns: Columns, kinds: np.ndarray) -> pa.RecordBatch:
    """All rows, as far as they are known without their payloads."""
    numbers = columns.numbers
    time_us = np.where(numbers["indexed_us"], numbers["indexed_us"], numbers["witnessed_us"])
    is_commit = pa.array(_IS_COMMIT[kinds])
    values = {name: columns.text(name) for name in TEXTS}
    values |= {name: pc.if_else(is_commit, values[name], _NO_TEXT) for name in _OF_COMMITS}
    values |= {
        "time_us": time_us,
        "seq": numbers["seq"].astype(np.int64),
        "witnessed_us": numbers["witnessed_us"].astype(np.int64),
    }
    values |= {"kind": _KINDS.take(pa.array(kinds)), "operation": _OPERATIONS.take(pa.array(kinds))}
    return pa.RecordBatch.from_arrays([pa.array(values[name]) for name in HEAD_SCHEMA.names], schema=HEAD_SCHEMA)


def _unreadable_heads(columns: Columns, kinds: np.ndarray, heads: pa.RecordBatch, latest_us: int) -> dict[int, str]:
    """Rows that are no events whatever their payloads hold, and why."""
    is_commit = _IS_COMMIT[kinds]
    times = [heads[name].to_numpy() for name in ("time_us", "witnessed_us")]
    found = [
        ("of a kind that is not known", (kinds == 0) | (kinds == _UNKNOWN)),
        ("no `did`", columns.lengths("did") == 0),
        *((f"a commit without `{name}`", is_commit & (columns.lengths(name) == 0)) for name in _OF_COMMITS),
        ("a sequence number out of range", heads["seq"].to_numpy() < 0),
        ("a time before 1970", np.minimum(*times) < 0),
        ("a time in the future", np.maximum(*times) > latest_us),
    ]
    reasons: dict[int, str] = {}
    for why, rows in found:
        for row in np.flatnonzero(rows).tolist():
            reasons.setdefault(row, why)
    for name in TEXTS:
        for row in columns.undecodable(name):
            reasons.setdefault(row, f"`{name}` is not UTF-8")
    return reasons


def _bodies(columns: Columns, kinds: np.ndarray, rows: np.ndarray) -> tuple[list[pa.StringArray], dict[int, str]]:
    """Of these rows the columns `cid`, `record` and `payload`, and the rows whose payloads are refused, and why."""
    kinds, sizes = kinds[rows], columns.lengths("payload")[rows]
    is_fit = (sizes > 0) & (sizes <= MAX_EVENT_BYTES)
    has_record, has_body = _HAS_RECORD[kinds], ~_IS_COMMIT[kinds]
    refused = {
        row: f"larger than {MAX_EVENT_BYTES} bytes" if size else "no payload"
        for row, size in zip(
            *(array[(has_record | has_body) & ~is_fit].tolist() for array in (rows, sizes)), strict=True
        )
    }
    has_record, has_body = has_record & is_fit, has_body & is_fit
    records, bodies = columns.payloads(rows[has_record]), columns.payloads(rows[has_body])
    record_texts = json_records(records)
    body_texts = json_bodies(list(zip(_KINDS.take(pa.array(kinds[has_body])).to_pylist(), bodies, strict=True)))
    for places, texts in ((rows[has_record], record_texts), (rows[has_body], body_texts)):
        refused |= {int(places[number]): why for number, why in texts.refused.items()}
    cids = _spread(record_cids(records), np.full(len(records), CID_CHARS), has_record)
    return [
        cids,
        _spread(record_texts.text, record_texts.lengths, has_record),
        _spread(body_texts.text, body_texts.lengths, has_body),
    ], refused


def _spread(text: bytes, lengths: np.ndarray, is_there: np.ndarray) -> pa.StringArray:
    """Values one after the other, each of its length, to the rows that have one; null elsewhere."""
    offsets = np.zeros(len(is_there) + 1, np.int32)
    offsets[1:][is_there] = lengths
    np.cumsum(offsets, out=offsets)
    validity = pa.py_buffer(np.packbits(is_there, bitorder="little"))
    return pa.StringArray.from_buffers(len(is_there), pa.py_buffer(offsets), pa.py_buffer(text), validity)
