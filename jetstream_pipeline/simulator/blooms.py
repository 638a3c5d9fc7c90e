"""Bloom filters of repositories, as the real server writes them into a segment and asks them when it plans.

A filter consists of buckets of 512 bits. The upper half of a hash chooses the bucket; the lower half, modulo each of
some distinct numbers that add up to 512, chooses one bit in each of the parts into which these divide the bucket.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import xxhash

_BUCKET_BITS = 512
_FALSE_POSITIVES = 0.001
_HEADER = struct.Struct("<BIQQ")
_FORMAT = 1
_PARTS = {
    3: (167, 173, 172),
    4: (109, 127, 137, 139),
    5: (97, 101, 103, 109, 102),
    6: (61, 79, 83, 89, 97, 103),
    7: (61, 67, 71, 79, 83, 89, 62),
    8: (37, 47, 53, 61, 67, 71, 79, 97),
    9: (41, 43, 47, 53, 59, 67, 71, 73, 58),
    10: (31, 37, 41, 43, 47, 53, 59, 61, 67, 73),
    11: (29, 31, 37, 41, 43, 44, 47, 53, 59, 61, 67),
    12: (17, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 71),
    13: (17, 19, 23, 29, 31, 37, 41, 43, 47, 52, 53, 59, 61),
    14: (11, 13, 17, 19, 23, 29, 31, 37, 41, 47, 53, 59, 61, 71),
}

Hashes = npt.NDArray[np.uint64]


def hashes(dids: Collection[str]) -> Hashes:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, dids), np.uint64, len(dids))


def bloom(members: Hashes, capacity: int) -> bytes:
    """A filter that is right for so many members. Those of equal capacity are equally long."""
    wanted_bits = -math.log(_FALSE_POSITIVES) / math.log(2) ** 2 * capacity
    buckets = math.ceil(wanted_bits / _BUCKET_BITS)
    number = min(14, max(3, int(buckets * _BUCKET_BITS / capacity * math.log(2) + 0.5)))
    bits = np.zeros(buckets * _BUCKET_BITS, bool)
    bits[_bits(members, buckets, number)] = True
    return _HEADER.pack(_FORMAT, number, buckets, len(members)) + np.packbits(bits, bitorder="little").tobytes()


def may_hold(filter_: bytes, candidates: Hashes) -> bool:
    """Whether any of them may be a member; never False where one is."""
    _, number, buckets, _ = _HEADER.unpack_from(filter_)
    where = _bits(candidates, buckets, number)
    octets = np.frombuffer(filter_, np.uint8, offset=_HEADER.size)
    return bool((octets[where >> np.uint64(3)] >> (where & np.uint64(7)).astype(np.uint8) & 1).all(axis=1).any())


def _bits(members: Hashes, buckets: int, number: int) -> npt.NDArray[np.uint64]:
    """For each member, the bits that it sets."""
    parts = np.array(_PARTS[number], np.uint64)
    begins = np.concatenate(([0], np.cumsum(parts)[:-1])).astype(np.uint64)
    bucket = (members >> np.uint64(32)) % np.uint64(buckets)
    inner = members & np.uint64(0xFFFF_FFFF)
    bits: npt.NDArray[np.uint64] = bucket[:, None] * np.uint64(_BUCKET_BITS) + begins + inner[:, None] % parts
    return bits


def packed(filters: Iterable[bytes]) -> bytes:
    """Filters of equal length, one after the other, behind their number and length."""
    together = list(filters)
    return struct.pack("<II", len(together), len(together[0]) if together else 0) + b"".join(together)
