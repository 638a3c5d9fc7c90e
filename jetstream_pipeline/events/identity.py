"""What makes an event itself, whichever host sends it, at whatever time and under whatever number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.events.decode import Rejected

IDENTITY_COLUMNS = ("did", "kind", "rev", "collection", "rkey", "operation", "payload")
"""The columns of `EVENT_SCHEMA` that an identity is made of."""

_SEPARATOR = "\x1f"


class _Upstream(msgspec.Struct):
    seq: int | None = None


_upstream = msgspec.json.Decoder(_Upstream)


def identities(events: pa.RecordBatch | pa.Table) -> pa.Array:
    """Each event's identity as text: a commit operation is (did, rev, collection, rkey, operation); an identity or
    account change is (did, kind, upstream seq), or its whole body where that has none, or 0."""
    parts = identity_parts(events)
    joined = pc.binary_join_element_wise(*parts, _SEPARATOR, null_handling="replace", null_replacement="")
    odd = pc.not_equal(pc.count_substring(joined, _SEPARATOR), len(parts) - 1)
    if not odd.true_count:
        return joined
    # Strangers choose what is in them. JSON has none of the separators.
    texts = (part.filter(odd).fill_null("").to_pylist() for part in parts)
    return pc.replace_with_mask(joined, odd, pa.array(map(json.dumps, zip(*texts, strict=True)), pa.string()))


def identity_parts(events: pa.RecordBatch | pa.Table) -> list[pa.StringArray]:
    """What identities are made of: columns of texts, in which none is as good as an empty one."""
    columns = [_flat(events[name]) for name in IDENTITY_COLUMNS]
    payloads = columns.pop()
    if payloads.null_count == len(payloads):
        return [*columns, payloads]
    bodies: list[str | None] = [None] * len(payloads)
    for row, body in _bodies(payloads):
        bodies[row] = body
    return [*columns, pa.array(bodies, pa.string())]


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _bodies(payloads: pa.StringArray) -> Iterator[tuple[int, str]]:
    """What makes a change of an account itself, with its row: hardly any event is one."""
    rows = np.flatnonzero(payloads.is_valid().to_numpy(zero_copy_only=False))
    return zip(rows.tolist(), map(_body_identity, payloads.take(pa.array(rows)).to_pylist()), strict=True)


def _body_identity(payload: str) -> str:
    try:
        seq = _upstream.decode(payload).seq
    except msgspec.DecodeError:
        seq = None
    return str(seq) if seq else payload


def digests(rejected: Iterable[Rejected]) -> list[bytes]:
    """What messages that are no events are recognised by."""
    return [digest(message.message) for message in rejected]


def digest(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()
