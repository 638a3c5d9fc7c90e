"""Which records others refer to: popular posts, recent posts, reposts. All of them exist when they are
referred to.

How a record's identifier comes about belongs to `records`; here records are only chosen, and remembered.
"""

from collections.abc import Callable
from typing import NamedTuple

from jetstream_pipeline.simulator.randomness import Randomness, fraction
from jetstream_pipeline.simulator.schedule import ROLE_NUMBER
from jetstream_pipeline.simulator.units import Unit, Units

_FIRST_POST = ROLE_NUMBER["root_post"]
_LAST_ROOT = ROLE_NUMBER["gated_post"]
_LAST_POST = ROLE_NUMBER["quote"]
_REPLY = ROLE_NUMBER["reply"]
_REPOST = ROLE_NUMBER["repost"]

_FASHION_MINUTES = 15
"""How long the same posts stay popular."""
_POPULAR_AGE_MINUTES = 720
_ANY_AGE_MINUTES = 1440
_FURTHEST_SEARCH_MINUTES = 5_000


class Reference(NamedTuple):
    did: str
    uri: str
    cid: str
    gone_minute: int
    root: "Reference | None"
    """The root of the thread, if the record is a reply."""

    @property
    def strong(self) -> dict[str, str]:
        return {"cid": self.cid, "uri": self.uri}


class References:
    """Chooses what a unit of some minute refers to."""

    def __init__(
        self, randomness: Randomness, units: Units, describe: Callable[[Unit], Reference], popular_posts: int
    ) -> None:
        self._randomness = randomness
        self._units = units
        self._describe = describe
        self._popular_posts = popular_posts
        self._popular: dict[tuple[int, int], Reference] = {}
        self._recent: dict[tuple[int, int], Reference] = {}
        self._reposts: dict[tuple[int, int], tuple[Reference, Reference]] = {}

    def post(self, minute: int, word: int, popular_per_mille: int = 860) -> Reference:
        """Any post, mostly a popular one."""
        if word % 1000 < popular_per_mille:
            popular = self._popular_post(minute, word)
            if popular.gone_minute > minute:
                return popular
        age = fraction(word)
        return self._found(minute, 1 + int(age * age * age * _ANY_AGE_MINUTES), _FIRST_POST, _LAST_POST, word)

    def root_post(self, minute: int, word: int) -> Reference:
        """A post that is no reply and quotes nothing."""
        if word % 1000 < 600:
            popular = self._popular_post(minute, word)
            if popular.gone_minute > minute:
                return popular
        age = fraction(word)
        return self._found(minute, 1 + int(age * age * 600), _FIRST_POST, _LAST_ROOT, word)

    def reply(self, minute: int, word: int) -> Reference:
        return self._found(minute, 1 + word % 45, _REPLY, _REPLY, word)

    def repost(
        self, minute: int, word: int, subject_of: Callable[[Unit], Reference]
    ) -> tuple[Reference, Reference] | None:
        """A recent repost and its subject, if both still exist."""
        # A cubed share keeps to few reposts, as people see the same ones.
        share = fraction(word)
        unit = self._search(minute, 1 + word % 20, _REPOST, _REPOST, int(share * share * share * 1_000_000))
        key = unit.minute, unit.position
        known = self._reposts.get(key)
        if known is None:
            if len(self._reposts) > 20_000:
                self._reposts.clear()
            known = self._reposts[key] = self._describe(unit), subject_of(unit)
        return known if known[1].gone_minute > minute else None

    def _popular_post(self, minute: int, word: int) -> Reference:
        fashion = minute // _FASHION_MINUTES
        share = fraction((word * 0x9E3779B97F4A7C15) & 0xFFFF_FFFF_FFFF_FFFF)
        rank = int(self._popular_posts * share * share * share)
        known = self._popular.get((fashion, rank))
        if known is None:
            if len(self._popular) > 20_000:
                self._popular.clear()
            words = self._randomness.words(b"popular", fashion, rank)
            age = fraction(words[0])
            begin = fashion * _FASHION_MINUTES
            back = 1 + int(age * age * _POPULAR_AGE_MINUTES)
            known = self._popular[fashion, rank] = self._found(begin, back, _FIRST_POST, _LAST_ROOT, words[1])
        return known

    def _found(self, minute: int, back: int, first: int, last: int, word: int) -> Reference:
        unit = self._search(minute, back, first, last, word)
        key = unit.minute, unit.position
        known = self._recent.get(key)
        if known is None:
            if len(self._recent) > 100_000:
                self._recent.clear()
            known = self._recent[key] = self._describe(unit)
        return known

    def _search(self, minute: int, back: int, first: int, last: int, word: int) -> Unit:
        """The unit nearest to the wish that exists at `minute` and whose author stays."""
        for earlier in range(minute - back, minute - back - _FURTHEST_SEARCH_MINUTES, -1):
            layout = self._units.schedule.layout(earlier)
            start = layout.starts[first]
            width = layout.starts[last + 1] - start
            for step in range(width):
                role, index = layout.role_of_slot(start + (word + step) % width)
                if self._units.schedule.gone_minute(layout, role, index) <= minute:
                    continue
                unit = self._units.at(earlier, layout.position(role, index))
                if not unit.account.throwaway:
                    return unit
        raise LookupError(f"no record to refer to in minute {minute}: the rate is too low")
