"""How atproto spells things: TIDs, CIDs, DIDs' random part, timestamps.

Pure conversions belong here. Which identifier something gets is decided elsewhere.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import libipld

_SORTABLE = "234567abcdefghijklmnopqrstuvwxyz"
_TRIPLES = [a + b + c for a in _SORTABLE for b in _SORTABLE for c in _SORTABLE]
_RECORD_CID_PREFIX = b"\x01\x71\x12\x20"
_BLOB_CID_PREFIX = b"\x01\x55\x12\x20"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_US = 60_000_000

_minute_texts: dict[int, str] = {}


def tid(time_us: int, clock: int) -> str:
    """The 13 characters of a TID: 53 bits of microseconds, 10 bits of clock."""
    value = time_us << 10 | clock
    triples = _TRIPLES
    return (
        _SORTABLE[value >> 60]
        + triples[value >> 45 & 32767]
        + triples[value >> 30 & 32767]
        + triples[value >> 15 & 32767]
        + triples[value & 32767]
    )


def plc_did(entropy: bytes) -> str:
    """A did:plc from 15 bytes."""
    spelled: str = libipld.encode_multibase("b", entropy)
    return "did:plc:" + spelled[1:]


def record_cid(record: Any) -> str:
    """The true CID of a record, given in its JSON form."""
    cid: str = libipld.encode_cid(_RECORD_CID_PREFIX + hashlib.sha256(dag_cbor(record)).digest())
    return cid


def dag_cbor(record: Any) -> bytes:
    """The bytes of a record, given in its JSON form."""
    encoded: bytes = libipld.encode_dag_cbor(_with_links(record))
    return encoded


def plain_record_cid(record: dict[str, Any]) -> str:
    """The same for a record that is known to hold neither links nor bytes."""
    encoded = libipld.encode_dag_cbor(record)
    cid: str = libipld.encode_cid(_RECORD_CID_PREFIX + hashlib.sha256(encoded).digest())
    return cid


def blob_cid(digest: bytes) -> str:
    cid: str = libipld.encode_cid(_BLOB_CID_PREFIX + digest)
    return cid


def _with_links(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        if "$link" in value:
            # The encoder takes bytes that spell a CID for a link.
            return libipld.decode_multibase(value["$link"])[1]
        return {key: item if type(item) is str else _with_links(item) for key, item in value.items()}
    if kind is list:
        return [_with_links(item) for item in value]
    return value


def timestamp(time_us: int) -> str:
    """`2026-07-04T14:38:08.999Z`: milliseconds, as most clients write."""
    return f"{precise_timestamp(time_us)[:-4]}Z"


def precise_timestamp(time_us: int) -> str:
    """`2026-07-04T14:38:08.999123Z`: microseconds, as the second wire writes."""
    minute, rest = divmod(time_us, _MINUTE_US)
    prefix = _minute_texts.get(minute)
    if prefix is None:
        if len(_minute_texts) > 50_000:
            _minute_texts.clear()
        prefix = _minute_texts[minute] = (_EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:")
    seconds, rest = divmod(rest, 1_000_000)
    return f"{prefix}{seconds:02d}.{rest:06d}Z"
