"""Random numbers by counter: the same question always gets the same answer.

Every number of the synthetic network is a keyed digest of what it is for, so that any event can be computed
alone, in any order, in any process. Nothing here knows what the numbers mean, and nothing here keeps a state
that matters.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator

Words = tuple[int, int, int, int, int, int, int, int]

_EIGHT_WORDS = struct.Struct("<8Q")
_OUTER_WORDS = struct.Struct("<Q48xQ")
_NUMBER = struct.Struct("<q")
_TWO_NUMBERS = struct.Struct("<qq")
_UNIT_INTERVAL = 2.0**-53


def fraction(word: int) -> float:
    """A float in [0, 1) from a 64-bit word."""
    return (word >> 11) * _UNIT_INTERVAL


def fractions(words: Iterable[int]) -> list[float]:
    return [(word >> 11) * _UNIT_INTERVAL for word in words]


class Dice:
    """A short supply of small random numbers, taken one after the other from one large integer."""

    __slots__ = ("_pool",)

    def __init__(self, pool: int) -> None:
        self._pool = pool

    def below(self, bound: int) -> int:
        self._pool, value = divmod(self._pool, bound)
        return value

    def chance(self, per_mille: int) -> bool:
        return self.below(1000) < per_mille

    def bytes(self, length: int) -> bytes:
        return self.below(1 << 8 * length).to_bytes(length, "little")


class Randomness:
    """Digests under one seed."""

    def __init__(self, seed: int) -> None:
        key = hashlib.blake2b(str(seed).encode(), digest_size=32, person=b"synthetic net").digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=64)

    def words(self, purpose: bytes, first: int, second: int) -> Words:
        """Eight 64-bit words for the question (purpose, first, second)."""
        return _EIGHT_WORDS.unpack(self._digest(purpose, first, second))

    def outer_words(self, purpose: bytes, first: int, count: int) -> Iterator[tuple[int, int]]:
        """The first and the last word for each of the questions (purpose, first, 0) to (purpose, first, count - 1)."""
        # What the questions have in common is digested once.
        common = self._keyed.copy()
        common.update(purpose + _NUMBER.pack(first))
        another, spelled, words = common.copy, _NUMBER.pack, _OUTER_WORDS.unpack
        for second in range(count):
            digest = another()
            digest.update(spelled(second))
            yield words(digest.digest())

    def dice(self, purpose: bytes, first: int, second: int, rolls: int = 1) -> Dice:
        """Dice with `rolls` times 512 bits."""
        pool = b"".join(self._digest(purpose + bytes([roll]), first, second) for roll in range(rolls))
        return Dice(int.from_bytes(pool, "little"))

    def _digest(self, purpose: bytes, first: int, second: int) -> bytes:
        digest = self._keyed.copy()
        digest.update(purpose + _TWO_NUMBERS.pack(first, second))
        return digest.digest()
