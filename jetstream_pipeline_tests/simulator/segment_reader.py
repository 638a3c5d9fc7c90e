"""A reader of sealed segments as the protocol describes them, and of their rows as the second wire spells them.

It shares nothing with what writes them."""

import hashlib
import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import libipld
import xxhash
import zstandard

from jetstream_pipeline_tests.simulator.conftest import V2

_NAMES = {1: "create", 2: "update", 3: "delete", 4: "identity", 5: "account"}
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Row:
    seq: int
    witnessed_us: int
    indexed_us: int
    kind: str
    collection: str
    did: str
    rkey: str
    rev: str
    payload: bytes

    @property
    def time_us(self) -> int:
        return self.indexed_us or self.witnessed_us

    @property
    def cid(self) -> str:
        return str(libipld.encode_cid(b"\x01\x71\x12\x20" + hashlib.sha256(self.payload).digest()))

    @property
    def message(self) -> bytes:
        """As the second wire spells it."""
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.time_us)
        body = {"did": self.did, "seq": self.seq, "time": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"}
        kind = "commit"
        if self.kind in ("identity", "account"):
            kind = self.kind
            body[kind] = libipld.decode_dag_cbor(self.payload)
        else:
            body |= {"operation": self.kind, "collection": self.collection, "rkey": self.rkey, "rev": self.rev}
            if self.payload:
                body |= {"cid": self.cid, "record": _as_json(libipld.decode_dag_cbor(self.payload))}
        payload = {"$type": f"{V2.removeprefix('/xrpc/')}#{kind}", **body}
        text = json.dumps(
            {"$type": "message", "payload": payload}, ensure_ascii=False, separators=(",", ":"), sort_keys=True
        )
        for character, escape in _ESCAPES.items():
            text = text.replace(character, escape)
        return text.encode()


@dataclass(frozen=True)
class BlockEntry:
    offset: int
    compressed: int
    size: int
    count: int
    min_seq: int
    max_seq: int
    min_us: int
    max_us: int


class SegmentFile:
    """A sealed segment; everything that can be checked about its frame is."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        magic, self.checksum, version, blocks, self.count, self.dids = struct.unpack_from("<4sQHIII", data)
        assert (magic, version) == (b"jss0", 1)
        self.bounds = struct.unpack_from("<QQqq", data, 26)
        self.places = struct.unpack_from("<QQQQQ", data, 58)
        footer, self.bloom_at, self.block_blooms_at, self.collections_at, index = self.places
        assert not any(data[98:256])
        assert xxhash.xxh3_64_intdigest(data[12:256] + data[footer:]) == self.checksum
        self.entries = [BlockEntry(*struct.unpack_from("<QIIIQQqq", data, index + 52 * at)) for at in range(blocks)]
        end = 256
        for entry in self.entries:
            assert entry.offset == end
            assert struct.unpack_from("<Q", data, entry.offset) == (entry.compressed,)
            end += 8 + entry.compressed
        assert end == footer
        assert self.count == sum(entry.count for entry in self.entries)

    def frame(self, block: int) -> bytes:
        entry = self.entries[block]
        return self.data[entry.offset + 8 : entry.offset + 8 + entry.compressed]

    def rows(self, block: int) -> list[Row]:
        frame, entry = self.frame(block), self.entries[block]
        assert zstandard.get_frame_parameters(frame).has_checksum
        rows = read_block(frame)
        assert len(rows) == entry.count
        assert all(entry.min_seq <= row.seq <= entry.max_seq for row in rows)
        assert all(entry.min_us <= row.witnessed_us <= entry.max_us for row in rows)
        return rows

    def all_rows(self) -> list[Row]:
        return [row for block in range(len(self.entries)) for row in self.rows(block)]

    def collections(self) -> tuple[dict[str, int], list[set[str]]]:
        """How many events each collection has, and which of them each block holds."""
        number, blocks, mask_bytes, size = struct.unpack_from("<IIII", self.data, self.collections_at)
        body = zstandard.ZstdDecompressor().decompressobj().decompress(self.data[self.collections_at + 16 :])
        assert len(body) == size
        counts: dict[str, int] = {}
        at = 0
        for _ in range(number):
            length, count = struct.unpack_from("<BI", body, at)
            counts[body[at + 5 : at + 5 + length].decode()] = count
            at += 5 + length
        masks = [int.from_bytes(body[at + i * mask_bytes :][:mask_bytes], "little") for i in range(blocks)]
        assert at + blocks * mask_bytes == size
        return counts, [{name for i, name in enumerate(counts) if mask >> i & 1} for mask in masks]


def read_block(frame: bytes) -> list[Row]:
    content = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    (number,) = struct.unpack_from("<I", content)
    at = 4
    columns = []
    for code in "QqqBBHBBI":
        column = struct.Struct(f"<{number}{code}")
        columns.append(column.unpack_from(content, at))
        at += column.size
    seqs, witnessed, indexed, kinds, *lengths = columns
    texts = []
    for column_lengths in lengths:
        pieces = []
        for length in column_lengths:
            pieces.append(content[at : at + length])
            at += length
        texts.append(pieces)
    assert at == len(content)
    collections, dids, rkeys, revs = ([piece.decode() for piece in pieces] for pieces in texts[:4])
    names = [_NAMES[kind] for kind in kinds]
    return list(map(Row, seqs, witnessed, indexed, names, collections, dids, rkeys, revs, texts[4]))


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return {"$link": libipld.encode_cid(value)} if isinstance(value, bytes) else value
