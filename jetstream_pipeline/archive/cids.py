"""Content hashes as text: many at once, without a Python object for each."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import product

import numpy as np

_RECORD = bytes([0x01, 0x71, 0x12, 0x20])
"""CIDv1, DAG-CBOR, SHA-256 of 32 bytes."""
CID_BYTES = 36
CID_CHARS = 59
_ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = np.frombuffer(bytes(letter for pair in product(_ALPHABET, repeat=2) for letter in pair), np.uint16)
"""Two digits, which are ten bits, as text."""
_GROUP_BYTES = 5
"""Become four pairs."""
_GROUPS = -(-CID_BYTES // _GROUP_BYTES)
_SHIFTS = np.array([30, 20, 10, 0])


def record_cids(payloads: Sequence[bytes]) -> bytes:
    """The CIDs of DAG-CBOR records, `CID_CHARS` ASCII characters each, one after the other."""
    digests = b"".join([sha256(payload).digest() for payload in payloads])
    cids = np.empty((len(payloads), CID_BYTES), np.uint8)
    cids[:, : len(_RECORD)] = np.frombuffer(_RECORD, np.uint8)
    cids[:, len(_RECORD) :] = np.frombuffer(digests, np.uint8).reshape(-1, CID_BYTES - len(_RECORD))
    return _base32(cids)


def cid_text(cid: bytes) -> str:
    """One CID of `CID_BYTES` bytes in lower-case base32."""
    return _base32(np.frombuffer(cid, np.uint8).reshape(1, CID_BYTES)).decode()


def _base32(cids: np.ndarray) -> bytes:
    """CIDs, one a row, each as `b` and lower-case base32."""
    padded = np.zeros((len(cids), _GROUPS * _GROUP_BYTES), np.uint8)
    padded[:, :CID_BYTES] = cids
    words = np.zeros((len(cids), _GROUPS, 8), np.uint8)
    words[:, :, -_GROUP_BYTES:] = padded.reshape(-1, _GROUPS, _GROUP_BYTES)
    pairs = _PAIRS[words.view(">i8").astype(np.int64) >> _SHIFTS & 1023]
    text = np.full((len(cids), CID_CHARS), ord("b"), np.uint8)
    text[:, 1:] = pairs.view(np.uint8).reshape(-1, _GROUPS * 8)[:, : CID_CHARS - 1]
    return text.tobytes()
