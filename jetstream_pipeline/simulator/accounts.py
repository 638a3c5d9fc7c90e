"""Who acts: established accounts that never leave, and throwaway accounts that live for some hours.

An established account is a rank in the population; a throwaway account is the event of its birth. What an
account does, and when, does not belong here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from jetstream_pipeline.simulator.identifiers import plc_did
from jetstream_pipeline.simulator.randomness import Randomness, fraction, fractions
from jetstream_pipeline.simulator.vocabulary import HANDLE_WORDS, LANGUAGES_BY_WEIGHT

_SHORTEST_LATENCY_US = 1_000
_LATENCY_RANGE_US = 900_000


class Account(NamedTuple):
    did: str
    name: str
    clock: int
    latency_us: int
    """How long before the network's clock this account's client stamps its records."""
    language: str
    throwaway: bool

    @property
    def handle(self) -> str:
        return f"{self.name}.{'example.org' if self.clock % 10 == 0 else 'bsky.social'}"


class Accounts:
    """The population of one network."""

    def __init__(self, randomness: Randomness, rate: float) -> None:
        self.population = min(200_000, 500 + int(rate * 1000))
        self._randomness = randomness
        self._established: dict[int, Account] = {}
        self._throwaways: dict[tuple[int, int], Account] = {}

    def active(self, word: int) -> Account:
        """An established account; few of them do much."""
        share = fraction(word)
        return self.established(int(self.population * share * share))

    def active_dids(self, words: Iterable[int]) -> list[str]:
        """The DIDs of the accounts that `active` finds, for many words at once."""
        population, known, made = self.population, self._established, self.established
        ranks = [int(population * share * share) for share in fractions(words)]
        return [(known.get(rank) or made(rank)).did for rank in ranks]

    def popular(self, word: int) -> Account:
        """An established account; few of them are followed by many."""
        share = fraction(word)
        return self.established(int(self.population * share * share * share))

    def established(self, rank: int) -> Account:
        account = self._established.get(rank)
        if account is None:
            # Ranks are scattered, so that the two power laws do not favour the same accounts too much.
            account = self._established[rank] = self._make(b"account", rank, 0)
        return account

    def throwaway(self, minute: int, position: int) -> Account:
        key = minute, position
        account = self._throwaways.get(key)
        if account is None:
            if len(self._throwaways) > 50_000:
                self._throwaways.clear()
            account = self._throwaways[key] = self._make(b"throwaway", minute, position)
        return account

    def _make(self, purpose: bytes, first: int, second: int) -> Account:
        words = self._randomness.words(purpose, first, second)
        throwaway = purpose == b"throwaway"
        number_of_words = len(HANDLE_WORDS)
        name = f"{HANDLE_WORDS[words[2] % number_of_words]}-{HANDLE_WORDS[words[3] % number_of_words]}"
        name += str(words[4] % 10_000)
        if not throwaway and words[5] % 1000 < 4:
            did = f"did:web:{name}-{first}.example.net"
        else:
            did = plc_did((words[0] << 56 | words[1] >> 8).to_bytes(15, "big"))
        return Account(
            did,
            name,
            words[6] % 1024,
            _SHORTEST_LATENCY_US + words[6] // 1024 % _LATENCY_RANGE_US,
            LANGUAGES_BY_WEIGHT[words[7] % len(LANGUAGES_BY_WEIGHT)],
            throwaway,
        )
