"""Who does a unit, when exactly, and upon what: everything about a commit except its content.

Every unit can be computed alone from its minute and position. What it writes belongs to `records`.
"""

from collections.abc import Sequence
from functools import lru_cache

from jetstream_pipeline.simulator.accounts import Account, Accounts
from jetstream_pipeline.simulator.identifiers import tid
from jetstream_pipeline.simulator.randomness import Randomness, Words
from jetstream_pipeline.simulator.schedule import MINUTE_US, ROLE_NUMBER, ROLES, Layout, Schedule

_BIRTH = ROLE_NUMBER["birth"]
_IDENTITY = ROLE_NUMBER["identity"]
_REPOSITORY_TO_WITNESS_US = 180_000
_CLIENT_TO_REPOSITORY_US = 8_000
_YOUNGEST_MINUTES = 10
_LIFE_MINUTES = 60
_LATEST_ACT_OF_THROWAWAY = 45
"""Minutes: with the age of the account this still lies before anything can happen to it."""

_OPEN_TO_THROWAWAYS = frozenset(
    ROLE_NUMBER[name]
    for name in (
        "like",
        "root_post",
        "reply",
        "deep_reply",
        "quote",
        "repost",
        "repost_via",
        "follow",
        "block",
    )
)
_ESTABLISHED = 63
"""Whoever acts is an established account where a unit's first word has any of these bits, unless its role says who."""
_SAY_WHO_ACTS = tuple(number for number, role in enumerate(ROLES) if role.follows or number == _BIRTH)
_DIDS_KEPT = 4_000_000
_OF_ACCOUNTS = frozenset(number for number, role in enumerate(ROLES) if role.follows in ("birth", "deactivation"))


class Unit:
    """One commit, identity or account event of one account."""

    __slots__ = ("account", "index", "layout", "position", "rev_us", "role", "target", "words")

    def __init__(
        self,
        layout: Layout,
        position: int,
        role: int,
        index: int,
        words: Words,
        account: Account,
        target: "Unit | None",
    ) -> None:
        self.layout = layout
        self.position = position
        self.role = role
        self.index = index
        self.words = words
        self.account = account
        self.target = target
        # Distinct for all units, so that revs grow and no repository writes the same key twice.
        self.rev_us = layout.minute * MINUTE_US + position * MINUTE_US // layout.count - _REPOSITORY_TO_WITNESS_US

    @property
    def minute(self) -> int:
        return self.layout.minute

    @property
    def witnessed_us(self) -> int:
        """When the network sees it, before any host's disorder; grows along the page."""
        jitter = self.words[1] % MINUTE_US
        return self.layout.minute * MINUTE_US + (self.position * MINUTE_US + jitter) // self.layout.count

    @property
    def rev(self) -> str:
        return tid(self.rev_us, self.account.clock)

    def written_us(self, operation: int) -> int:
        """The client's clock at this operation of the commit."""
        return self.rev_us - self.account.latency_us - _CLIENT_TO_REPOSITORY_US + operation

    def rkey(self, operation: int) -> str:
        return tid(self.written_us(operation), self.account.clock)


class Units:
    """All units of one network."""

    def __init__(self, randomness: Randomness, schedule: Schedule, accounts: Accounts) -> None:
        self.schedule = schedule
        self._randomness = randomness
        self._accounts = accounts
        minutes_kept = max(4, int(_DIDS_KEPT / (60 * schedule.rate)))
        self.dids = lru_cache(minutes_kept)(self._dids)

    def at(self, minute: int, position: int) -> Unit:
        layout = self.schedule.layout(minute)
        role, index = layout.at(position)
        words = self._randomness.words(b"unit", minute, position)
        if ROLES[role].follows:
            target = self._target(layout, role, index)
            if target is not None:
                return Unit(layout, position, role, index, words, target.account, target)
            # Nothing is left to act upon: the slot becomes an everyday event.
            role = _IDENTITY
        if role == _BIRTH:
            account = self._accounts.throwaway(minute, position)
        else:
            account = self._actor(minute, role, words)
        return Unit(layout, position, role, index, words, account, None)

    def _dids(self, minute: int) -> Sequence[str]:
        """Who acts at each position of the minute, at a third of what the units cost."""
        layout = self.schedule.layout(minute)
        words = list(self._randomness.outer_words(b"unit", minute, layout.count))
        dids = self._accounts.active_dids(last for _, last in words)
        others = [position for position, (first, _) in enumerate(words) if not first & _ESTABLISHED]
        for role in _SAY_WHO_ACTS:
            others += [layout.position(role, index) for index in range(layout.number_of(role))]
        for position in others:
            dids[position] = self.at(minute, position).account.did
        return dids

    def _target(self, layout: Layout, role: int, index: int) -> Unit | None:
        acted_upon = self.schedule.acted_upon(layout, role, index)
        if acted_upon is None:
            return None
        target = self.at(*acted_upon)
        if role in _OF_ACCOUNTS:
            return target if target.account.throwaway else None
        if target.account.throwaway and ROLES[role].delay > _LATEST_ACT_OF_THROWAWAY:
            return None
        return target

    def _actor(self, minute: int, role: int, words: Words) -> Account:
        chance = words[0]
        if not chance & _ESTABLISHED and role in _OPEN_TO_THROWAWAYS:
            born = self.schedule.layout(minute - _YOUNGEST_MINUTES - (chance >> 6) % _LIFE_MINUTES)
            births = born.number_of(_BIRTH)
            if births:
                return self._accounts.throwaway(born.minute, born.position(_BIRTH, (chance >> 20) % births))
        return self._accounts.active(words[7])
