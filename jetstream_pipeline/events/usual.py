"""Messages that are spelled as Jetstream's own servers spell them: keys in one order, no blanks, and no escapes but in
bodies. Their values are cut out of the memory that they lie in.

v1: did, time_us, cursor (newer servers), kind, then a kind's body, or a commit of rev, operation, collection, rkey,
record, cid. v2: all keys in alphabetical order. Both as in messages of real servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np
import pyarrow as pa

from jetstream_pipeline.events.messages import MARGIN, Messages
from jetstream_pipeline.events.octets import Cursors, Spans, Unusual, strings
from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, EVENT_SCHEMA, IDENTITY, SYNC
from jetstream_pipeline.events.wires import Wire

_ALL = slice(None)
_KINDS = (COMMIT, IDENTITY, ACCOUNT, SYNC)
_OPERATIONS = np.array([b"create", b"update", b"delete"])
_DID, _TID, _NSID, _CID, _TIME_US, _OPERATION = 32, 13, 18, 59, 16, 6
"""How many bytes these usually take."""
_MAX_DIGITS = 18
_MOST_BYTES = 2**31 - 1
"""Arrow points to texts in so much memory."""
_SECOND, _MICROSECOND = "2026-07-04T12:00:00", "2026-07-04T12:00:00.123456Z"
_QUOTE, _BACKSLASH = b'"\\'
_BLANK = 0x20
_V2_BEGINS = b'{"$type":"message","payload":{"$type":"network.bsky.jetstream.subscribeEvents#'

_BYTE = re.compile(r"\(byte (\d+)\)$")
_bodies = msgspec.json.Decoder(msgspec.Raw)


def usual_events(messages: Messages, host: str, wire: Wire) -> pa.RecordBatch:
    """The messages, all of them UTF-8, as events of `EVENT_SCHEMA`; Unusual where one is spelled otherwise."""
    cursors = Cursors(*_with_margin(messages))
    columns = _Columns(cursors.memory, len(messages))
    try:
        if wire is Wire.V1:
            _read_v1(cursors, columns)
        else:
            _read_v2(cursors, columns)
    except IndexError as error:
        raise Unusual("fields that go on beyond their messages") from error
    return columns.batch(host)


def _with_margin(messages: Messages) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory that reaches beyond the first and the last message, and where in it they begin and end."""
    memory, starts, ends = messages.memory, messages.starts, messages.ends
    first, last = int(starts[0]), int(ends[-1])
    if first >= MARGIN and last + MARGIN <= len(memory) <= _MOST_BYTES:
        return memory, starts, ends
    if last - first + 2 * MARGIN > _MOST_BYTES:
        raise Unusual("more than Arrow points to")
    wider = np.full(last - first + 2 * MARGIN, _BLANK, np.uint8)
    wider[MARGIN:-MARGIN] = memory[first:last]
    shift = MARGIN - first
    return wider, starts + shift, ends + shift


class _Columns:
    """The values of a batch, found in some rows here and in some there."""

    def __init__(self, memory: np.ndarray, size: int) -> None:
        self._memory = memory
        self._size = size
        self._starts: dict[str, np.ndarray] = {}
        self._ends: dict[str, np.ndarray] = {}
        self._kinds = np.full(size, len(_KINDS))

    def add(self, rows: np.ndarray | slice, **found: Spans) -> None:
        """Values of columns in these rows."""
        for name, spans in found.items():
            if not (spans.lengths > 0).all():
                raise Unusual(f"no {name}")
            for side, places in ((self._starts, spans.starts), (self._ends, spans.ends)):
                side.setdefault(name, np.zeros(self._size, np.int64))[rows] = places

    def add_kind(self, rows: np.ndarray, kind: str) -> None:
        self._kinds[rows] = _KINDS.index(kind)

    def batch(self, host: str) -> pa.RecordBatch:
        # Strangers write the bodies: what is wrong is found there first.
        arrays = {name: self._array(name) for name in sorted(self._starts, key=lambda name: name not in _BODIES)}
        try:
            if "time" in arrays:
                arrays["time_us"] = arrays.pop("time").cast(pa.timestamp("us", "UTC"))
            for name in {"time_us", "seq"} & arrays.keys():
                arrays[name] = arrays[name].cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise Unusual(str(error)) from error
        if (self._kinds == len(_KINDS)).any():
            raise Unusual("a kind")
        arrays["kind"] = pa.array(_KINDS).take(pa.array(self._kinds))
        arrays["host"] = pa.repeat(pa.scalar(host, pa.string()), self._size)
        columns = [
            arrays[field.name] if field.name in arrays else pa.nulls(self._size, field.type) for field in EVENT_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)

    def _array(self, name: str) -> pa.Array:
        starts, ends = self._starts[name], self._ends[name]
        lengths = ends - starts
        present = lengths > 0
        if present.all():
            present, spans = None, Spans(self._memory, starts, ends)
        else:
            spans = Spans(self._memory, starts[present], ends[present])
        text = spans.text()
        try:
            _CHECKS.get(name, _check_text)(text, spans)
        except Unusual as error:
            if error.place is not None and present is not None:
                error.place = int(np.flatnonzero(present)[error.place])
            raise
        return strings(lengths, text, present)


def _check_text(text: np.ndarray, spans: Spans) -> None:
    """Unusual where a string in JSON would be spelled otherwise."""
    if ((text < _BLANK) | (text == _QUOTE) | (text == _BACKSLASH)).any():
        raise Unusual("an escape")


def _check_number(text: np.ndarray, spans: Spans) -> None:
    if ((text - ord("0")) > 9).any() or spans.lengths.max() > _MAX_DIGITS:
        raise Unusual("a number")
    if (spans.octets(1)[:, 0][spans.lengths > 1] == ord("0")).any():
        raise Unusual("a zero that leads")


def _check_time(text: np.ndarray, spans: Spans) -> None:
    """RFC 3339, in UTC, and as precise as we are."""
    if spans.lengths.min() <= len(_SECOND) or spans.lengths.max() > len(_MICROSECOND):
        raise Unusual("a time")
    octets = spans.octets(len(_SECOND))
    for place in (_SECOND.index("T"), _SECOND.index(":"), _SECOND.rindex(":")):
        if (octets[:, place] != ord(_SECOND[place])).any():
            raise Unusual("a time")
    if (spans.memory[spans.ends - 1] != ord("Z")).any():
        raise Unusual("a time that is not UTC")


def _check_body(text: np.ndarray, spans: Spans) -> None:
    """Unusual unless each of the texts is one JSON object."""
    lengths = spans.lengths
    if (spans.octets(1)[:, 0] != ord("{")).any():
        raise Unusual("a body that is not an object")
    try:
        found = _bodies.decode_lines(text.data)
    except (ValueError, RecursionError) as error:
        raise Unusual(str(error), _body_with(byte_told(str(error)), lengths)) from error
    if not np.array_equal(np.fromiter(map(len, found), np.int64, len(found)), lengths):
        raise Unusual("more than a body")


def _body_with(byte: int | None, lengths: np.ndarray) -> int | None:
    place = len(lengths) if byte is None else int(np.searchsorted(np.cumsum(lengths), byte, side="right"))
    return place if place < len(lengths) else None


def byte_told(error: str) -> int | None:
    """Where in a text msgspec found what it complains of, if it says so."""
    found = _BYTE.search(error)
    return int(found[1]) if found else None


def _check_operation(text: np.ndarray, spans: Spans) -> None:
    if (spans.lengths != _OPERATION).any() or not np.isin(text.view(_OPERATIONS.dtype), _OPERATIONS).all():
        raise Unusual("an operation")


_BODIES = ("record", "payload")
_CHECKS = {
    "time_us": _check_number,
    "time": _check_time,
    "seq": _check_number,
    "operation": _check_operation,
} | dict.fromkeys(_BODIES, _check_body)


def _read_v1(messages: Cursors, columns: _Columns) -> None:
    messages.skip(b'{"did":"')
    columns.add(_ALL, did=messages.field(b'","time_us":', _DID))
    if messages.goes_on(b',"cursor":', behind=_TIME_US):
        columns.add(_ALL, time_us=messages.field(b',"cursor":', _TIME_US), seq=messages.field(b',"kind":"'))
    else:
        columns.add(_ALL, time_us=messages.field(b',"kind":"', _TIME_US))
    messages.skip_back(b"}")
    for kind, rows, some in _by_kind(messages, columns):
        if kind == COMMIT:
            _read_v1_commits(some, rows, columns)
        else:
            some.skip(f'{kind}","{kind}":'.encode())
            columns.add(rows, payload=some.rest())


def _by_kind(messages: Cursors, columns: _Columns) -> Iterator[tuple[str, np.ndarray, Cursors]]:
    """The messages by kind, with their numbers; each goes on with its kind, of which the first octet tells."""
    first = messages.octet()
    for kind in _KINDS:
        rows = np.flatnonzero(first == ord(kind[0]))
        if len(rows):
            columns.add_kind(rows, kind)
            yield kind, rows, messages.of(rows)


def _read_v1_commits(commits: Cursors, rows: np.ndarray, columns: _Columns) -> None:
    commits.skip(b'commit","commit":{"rev":"')
    commits.skip_back(b'"}')
    columns.add(rows, rev=commits.field(b'","operation":"', _TID))
    is_delete = commits.octet() == ord("d")
    columns.add(
        rows,
        operation=commits.field(b'","collection":"', _OPERATION),
        collection=commits.field(b'","rkey":"', _NSID),
    )
    columns.add(rows[is_delete], rkey=commits.of(is_delete).rest())
    writes, rows = commits.of(~is_delete), rows[~is_delete]
    columns.add(
        rows,
        rkey=writes.field(b'","record":', _TID),
        cid=writes.field_back(b',"cid":"', _CID),
        record=writes.rest(),
    )


def _read_v2(messages: Cursors, columns: _Columns) -> None:
    messages.skip(_V2_BEGINS)
    messages.skip_back(b'"}}')
    columns.add(_ALL, time=messages.field_back(b',"time":"'))
    for kind, rows, some in _by_kind(messages, columns):
        some.skip(f'{kind}",'.encode())
        if kind == COMMIT:
            _read_v2_commits(some, rows, columns)
            continue
        if kind == ACCOUNT:
            some.skip(b'"account":')
            columns.add(rows, seq=some.field_back(b'","seq":'), did=some.field_back(b',"did":"', _DID))
        elif kind == IDENTITY:
            some.skip(b'"did":"')
            columns.add(rows, did=some.field(b'","identity":', _DID), seq=some.field_back(b',"seq":'))
        else:
            some.skip(b'"did":"')
            columns.add(rows, did=some.field(b'","seq":', _DID), seq=some.field(b',"sync":'))
        columns.add(rows, payload=some.rest())


def _read_v2_commits(commits: Cursors, rows: np.ndarray, columns: _Columns) -> None:
    columns.add(
        rows,
        seq=commits.field_back(b'","seq":'),
        rkey=commits.field_back(b'","rkey":"', _TID),
        rev=commits.field_back(b'"rev":"', _TID),
    )
    has_cid = commits.octet(len('"c')) == ord("i")
    _read_v2_changes(commits.of(~has_cid), rows[~has_cid], columns, is_write=False)
    writes, rows = commits.of(has_cid), rows[has_cid]
    writes.skip(b'"cid":"')
    columns.add(rows, cid=writes.field(b'",', _CID))
    _read_v2_changes(writes, rows, columns, is_write=True)


def _read_v2_changes(commits: Cursors, rows: np.ndarray, columns: _Columns, *, is_write: bool) -> None:
    commits.skip(b'"collection":"')
    commits.skip_back(b",")
    columns.add(rows, collection=commits.field(b'","did":"', _NSID), did=commits.field(b'","operation":"', _DID))
    if ((commits.octet() == ord("d")) == is_write).any():
        raise Unusual("more, or less, than the operation has")
    if is_write:
        columns.add(rows, operation=commits.field(b'","record":', _OPERATION), record=commits.rest())
    else:
        commits.skip_back(b'"')
        columns.add(rows, operation=commits.rest())
