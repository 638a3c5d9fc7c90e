"""Segments and blocks written from rows, as a server seals them, and wrongly where a test asks for it."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cbrrr
import xxhash
import zstandard

from jetstream_pipeline.simulator.event import SimulatedEvent

CREATE, UPDATE, DELETE, IDENTITY, ACCOUNT, SYNC, RESYNC = range(1, 8)
START_US = 1_783_175_880_000_000
HEADER_FIELDS = (
    "version", "blocks", "events", "unique_dids", "min_seq", "max_seq", "min_witnessed_us", "max_witnessed_us",
    "footer", "did_bloom", "block_did_blooms", "collection_index", "block_index",
)  # fmt: skip
ENTRY_FIELDS = (
    "offset", "compressed_bytes", "content_bytes", "events", "min_seq", "max_seq", "min_witnessed_us",
    "max_witnessed_us",
)  # fmt: skip
_HEADER = struct.Struct("<HIIIQQqqQQQQQ")
_ENTRY = struct.Struct("<QIIIQQqq")
_KINDS = {"create": CREATE, "update": UPDATE, "delete": DELETE, "identity": IDENTITY, "account": ACCOUNT, "sync": SYNC}


def cbor(value: Any) -> bytes:
    """The DAG-CBOR of an atproto JSON value."""
    return cbrrr.encode_dag_cbor(value, True)


@dataclass(frozen=True)
class Row:
    """One row of a block; a create of a small record unless told otherwise."""

    seq: int = 1
    witnessed_us: int = START_US
    indexed_us: int = 0
    kind: int = CREATE
    collection: bytes = b"app.bsky.feed.post"
    did: bytes = b"did:plc:a"
    rkey: bytes = b"3k"
    rev: bytes = b"3r"
    payload: bytes = cbor({"text": "hi"})


def row_of(event: SimulatedEvent, payload: bytes) -> Row:
    texts = [(text or "").encode() for text in (event.collection, event.did, event.rkey, event.rev)]
    indexed_us = event.time_us if event.time_us != event.witnessed_us else 0
    kind = _KINDS[event.operation or event.kind]
    return Row(event.seq, event.witnessed_us, indexed_us, kind, *texts, payload)


def rows(count: int, **fields: Any) -> list[Row]:
    """Rows of growing numbers and times."""
    return [replace(Row(**fields), seq=number + 1, witnessed_us=START_US + number) for number in range(count)]


def content_of(rows: Sequence[Row], count: int | None = None) -> bytes:
    """A block's content; `count`: the number of events that it claims to hold."""
    texts = [[getattr(row, name) for row in rows] for name in ("collection", "did", "rkey", "rev", "payload")]
    columns = [
        struct.pack("<I", len(rows) if count is None else count),
        struct.pack(f"<{len(rows)}Q", *(row.seq for row in rows)),
        struct.pack(f"<{len(rows)}q", *(row.witnessed_us for row in rows)),
        struct.pack(f"<{len(rows)}q", *(row.indexed_us for row in rows)),
        struct.pack(f"<{len(rows)}B", *(row.kind for row in rows)),
    ]
    for width, values in zip("BHBBI", texts, strict=True):
        columns.append(struct.pack(f"<{len(rows)}{width}", *map(len, values)))
    return b"".join([*columns, *(value for values in texts for value in values)])


def frame_of(content: bytes, *, checksum: bool = True, size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=size).compress(content)


def sealed(
    blocks: Sequence[Sequence[Row]],
    header: Mapping[str, int] | None = None,
    entries: Mapping[int, Mapping[str, int]] | None = None,
    lengths: Mapping[int, int] | None = None,
) -> bytes:
    """A segment's file of these blocks. What is given besides stands where the right value would: fields of the header,
    fields of a block's index entry, and the length before a block's frame. The checksum is that of what is written."""
    body = b""
    table: list[dict[str, int]] = []
    for number, block in enumerate(blocks):
        content = content_of(block)
        frame = frame_of(content)
        entry = dict(
            zip(ENTRY_FIELDS, (256 + len(body), len(frame), len(content), len(block), *_bounds(block)), strict=True)
        )
        table.append(entry | dict((entries or {}).get(number, {})))
        body += struct.pack("<Q", (lengths or {}).get(number, len(frame))) + frame
    index = b"".join(_ENTRY.pack(*(entry[name] for name in ENTRY_FIELDS)) for entry in table)
    every = [row for block in blocks for row in block]
    footer, blooms, collections = 256 + len(body), b"bloom", b"collections"
    places = (footer, footer + len(index), footer + len(index) + 2, footer + len(index) + len(blooms), footer)
    counts = (1, len(blocks), len(every), len({row.did for row in every}))
    right = dict(zip(HEADER_FIELDS, (*counts, *_bounds(every), *places), strict=True))
    fields = (right | dict(header or {})).values()
    head = _HEADER.pack(*fields).ljust(244, b"\0")
    footer_bytes = index + blooms + collections
    hashed_from = min(max((right | dict(header or {}))["footer"], 256), 256 + len(body) + len(footer_bytes))
    hashed = (body + footer_bytes)[hashed_from - 256 :]
    return b"jss0" + struct.pack("<Q", xxhash.xxh3_64_intdigest(head + hashed)) + head + body + footer_bytes


def _bounds(rows: Sequence[Row]) -> tuple[int, int, int, int]:
    seqs, times = [row.seq for row in rows] or [0], [row.witnessed_us for row in rows] or [0]
    return min(seqs), max(seqs), min(times), max(times)
