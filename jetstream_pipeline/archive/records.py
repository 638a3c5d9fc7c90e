"""DAG-CBOR to JSON text: character by character what a server sends on its v2 stream for the same event.

The rules are those of Go's JSON encoder: keys in the order of their bytes, no spaces, `<`, `>`, `&`, U+2028 and U+2029
escaped, numbers with as few digits as they take. What the server cannot send is refused, with two exceptions, which
have their text here: integers of more than 63 bits, and nesting beyond the server's 128 levels. Bytes after a record,
which the server overlooks, are refused.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import cbrrr
import msgspec
import numpy as np

from jetstream_pipeline.archive.cids import cid_text
from jetstream_pipeline.archive.shapes import MAX_DEPTH, check_shape
from jetstream_pipeline.events.decode import MAX_EVENT_BYTES
from jetstream_pipeline.events.schema import ACCOUNT, IDENTITY, SYNC

MAX_TEXT_BYTES = 1 << 30
"""Of one block's records: four times of what a block's content may have."""

_AT_ONCE = 128
"""Records whose values are in memory together: too few to make the garbage collector look through them."""
_LINE_FEED = ord("\n")
_NOTHING = msgspec.Raw(b"")
_HTML = {b"<": b"\\u003c", b">": b"\\u003e", b"&": b"\\u0026"}
_SEPARATORS = {"\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}
_ANY_SEPARATOR = re.compile(rb"\xe2\x80[\xa8\xa9]")
_STRANGE_TAG = re.compile(rb"\xd8\x2a(?!\x58\x25\x00\x01[\x55\x71]\x12\x20)")
"""What may be the beginning of a link that no server takes for one."""
_LINK_PREFIXES = (bytes([0x01, 0x55, 0x12, 0x20]), bytes([0x01, 0x71, 0x12, 0x20]))
_LINK_BYTES = 36
_SMALL, _HUGE = 1e-6, 1e21
"""Between these sizes a number has no exponent."""
_INT64 = range(-(2**63), 2**63)

_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True)
class _Field:
    """A field of an upstream event: its type in DAG-CBOR, and what stands for it where it is missing or null."""

    name: str
    type: type
    default: object = None
    is_nullable: bool = False


_TYPE, _DID, _SEQ, _TIME = _Field("$type", str), _Field("did", str, ""), _Field("seq", int, 0), _Field("time", str, "")
_BODIES = {
    IDENTITY: (_TYPE, _DID, _Field("handle", str, is_nullable=True), _SEQ, _TIME),
    ACCOUNT: (_TYPE, _Field("active", bool, False), _DID, _SEQ, _Field("status", str, is_nullable=True), _TIME),
    SYNC: (_TYPE, _Field("blocks", bytes, b""), _DID, _Field("rev", str, ""), _SEQ, _TIME),
}
"""In the order of the alphabet, which is the server's. Without a default a field is left out."""


class TooMuchText(ValueError):
    """A block's records cannot be in memory together."""


@dataclass(frozen=True)
class Texts:
    """JSON texts one after the other, the length of each in bytes, and why there is none, by number."""

    text: bytes
    lengths: np.ndarray
    refused: Mapping[int, str]


def json_records(payloads: Sequence[bytes]) -> Texts:
    """The JSON texts of records. What stands there for one that is refused means nothing.

    TooMuchText where they take more than `MAX_TEXT_BYTES` together.
    """
    refused: dict[int, str] = {}
    lines: list[bytes] = []
    size = 0
    for start in range(0, len(payloads), _AT_ONCE):
        lines.append(_lines(payloads[start : start + _AT_ONCE], start, refused))
        size += len(lines[-1])
        if size > MAX_TEXT_BYTES:
            raise TooMuchText(f"its records take more than {MAX_TEXT_BYTES} bytes of JSON")
    text = b"".join(lines)
    octets = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(octets == _LINE_FEED)
    begins = np.concatenate([[0], ends + 1])[:-1]
    for number in np.flatnonzero(octets[begins] != ord("{")).tolist():
        refused.setdefault(number, "`record` is not an object")
    for number in np.flatnonzero(ends - begins > MAX_EVENT_BYTES).tolist():
        refused.setdefault(number, f"larger than {MAX_EVENT_BYTES} bytes")
    return Texts(text.replace(b"\n", b""), ends - begins, refused)


def json_bodies(events: Sequence[tuple[str, bytes]]) -> Texts:
    """The JSON texts of upstream events, each given by its kind and its payload."""
    texts: list[bytes] = []
    refused: dict[int, str] = {}
    for number, (kind, payload) in enumerate(events):
        try:
            texts.append(_body(kind, payload))
        except (ValueError, MemoryError) as error:
            refused[number] = _reason(error)
            texts.append(b"")
    return Texts(b"".join(texts), np.fromiter(map(len, texts), np.int64, len(texts)), refused)


def _body(kind: str, payload: bytes) -> bytes:
    """An upstream event as a server tells it: the fields that it knows, and those it makes up."""
    check_shape(payload)
    event = cbrrr.decode_dag_cbor(payload, cid_ctor=_link)
    if not isinstance(event, dict):
        raise ValueError(f"`{kind}` is not an object")
    body: dict[str, object] = {}
    for field in _BODIES[kind]:
        value = event.get(field.name, field.default)
        if value is None and (field.is_nullable or field.name not in event):
            continue
        if type(value) is not field.type or (field.type is int and value not in _INT64):
            raise ValueError(f"`{field.name}` of `{kind}` is no {field.type.__name__} of the server's")
        if value or field is not _TYPE:
            body[field.name] = _leaf(value)
    return _escaped(msgspec.json.encode(body), _HTML)


def _lines(payloads: Sequence[bytes], first: int, refused: dict[int, str]) -> bytes:
    """Each payload's JSON text and a line feed; nothing but that for one that is refused. The first one has that number
    in the block."""
    values: list[Any] = []
    decode = _carefully if _STRANGE_TAG.search(b"".join(payloads)) else _quickly
    for number, payload in enumerate(payloads, first):
        try:
            if len(payload) > MAX_DEPTH:
                check_shape(payload)
            values.append(decode(payload))
        except (ValueError, MemoryError) as error:
            refused[number] = _reason(error)
            values.append(_NOTHING)
    try:
        text = _encoder.encode_lines(values)
    except RecursionError:
        text = b"".join([_line(value, number, refused) for number, value in enumerate(values, first)])
    text = _escaped(text, _HTML)
    return _escaped(text, _SEPARATORS) if _ANY_SEPARATOR.search(text) else text


def _line(value: object, number: int, refused: dict[int, str]) -> bytes:
    try:
        return _encoder.encode_lines([value])
    except RecursionError:
        refused[number] = "nested too deeply"
        return b"\n"


def _quickly(payload: bytes) -> object:
    """What a payload holds, of such values that their JSON is the server's. ValueError says why it holds nothing."""
    try:
        return cbrrr.decode_dag_cbor(payload, True)
    except ValueError:
        return _carefully(payload)


def _carefully(payload: bytes) -> object:
    """The same for what may hold floats, and links that are none."""
    return _spelled(cbrrr.decode_dag_cbor(payload, cid_ctor=_link))


def _reason(error: Exception) -> str:
    return str(error) or "it takes too much memory"


def _link(cid: bytes) -> dict[str, str]:
    if len(cid) != _LINK_BYTES or not cid.startswith(_LINK_PREFIXES):
        raise ValueError("a link that is no CID of this network's")
    return {"$link": cid_text(cid)}


def _spelled(value: object) -> object:
    """The same with what the encoder would spell otherwise than the server as text. Lists and maps are changed."""
    root = [value]
    open_: list[Any] = [root]
    while open_:
        container = open_.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, one in list(items):
            if isinstance(one, dict | list):
                open_.append(one)
            else:
                container[key] = _leaf(one)
    return root[0]


def _leaf(value: object) -> object:
    match value:
        case bytes():
            return {"$bytes": b64encode(value).rstrip(b"=").decode()}
        case float():
            return msgspec.Raw(_number(value).encode())
        case int() if value not in _INT64:
            return msgspec.Raw(str(value).encode())
        case _:
            return value


def _number(value: float) -> str:
    """A float as Go's JSON encoder spells it: as few digits as it takes, an exponent for very large and small ones."""
    text = repr(value)
    if value and not _SMALL <= abs(value) < _HUGE:
        return text.replace("e-0", "e-")
    text = f"{Decimal(text):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _escaped(text: bytes, escapes: Mapping[bytes, bytes]) -> bytes:
    for character, escape in escapes.items():
        if character in text:
            text = text.replace(character, escape)
    return text
