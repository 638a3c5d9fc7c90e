"""What happens when: how many commits a minute holds, of which role, and which of them act on an earlier
one.

A minute is a page of `count` units (a unit is one commit, identity or account event). Roles own contiguous
ranges of slots, and an affine permutation scatters the slots over the positions of the page; so (minute,
role, index) and (minute, position) translate into each other without a search.

A role that `follows` another one acts on units of that role `delay` minutes earlier, each at most once: index
j of the later page meets index (j + shift) modulo the width of a range of the earlier page. That too works in
both directions, and answers "is this record deleted, and when?" without storing anything.

What a unit contains does not belong here.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from jetstream_pipeline.simulator.randomness import Randomness, fraction

MINUTE_US = 60_000_000
NEVER = 1 << 62

_SHARE_UNIT = 1_000_000
_LAYOUTS_KEPT = 20_000
_HOURLY_PER_MILLE = (
    *(960, 890, 820, 760, 710, 680, 680, 700, 740, 800, 860, 920),
    *(970, 1040, 1110, 1170, 1230, 1290, 1360, 1440, 1500, 1380, 1200, 1070),
)
_MEAN_PER_MILLE = sum(_HOURLY_PER_MILLE) / 24


@dataclass(frozen=True)
class Role:
    """One kind of unit: its share of all units in millionths, and what it acts upon."""

    name: str
    share: int
    follows: str = ""
    delay: int = 0
    low: float = 0.0
    high: float = 1.0
    ends: bool = False
    """After it, what it acted upon is gone."""


_OTHERS = (
    # The five kinds of posts stand side by side, those that refer to no other post first.
    Role("root_post", 52_000),
    Role("gated_post", 1_400),
    Role("reply", 31_000),
    Role("deep_reply", 9_000),
    Role("quote", 10_000),
    Role("repost", 63_000),
    Role("repost_via", 29_000),
    Role("follow", 46_500),
    Role("follow_batch", 700),
    Role("block", 6_500),
    Role("list_batch", 700),
    Role("blog_entry", 1_400),
    Role("scrobble", 2_500),
    Role("oddity", 60),
    Role("profile_update", 5_500),
    Role("identity", 3_200),
    Role("account", 1_500),
    Role("birth", 1_200),
    Role("birth_identity", 1_000, "birth", 1),
    Role("birth_profile", 900, "birth", 2),
    Role("deactivation", 300, "birth", 120, 0.0, 0.4),
    Role("reactivation", 200, "deactivation", 60),
    Role("deletion", 500, "birth", 240, 0.0, 0.7, ends=True),
    Role("takedown", 150, "birth", 150, 0.7, 0.9, ends=True),
    Role("suspension", 60, "birth", 130, 0.9, 1.0, ends=True),
    Role("unlike_soon", 11_000, "like", 2, 0.0, 0.4, ends=True),
    Role("unlike_late", 10_000, "like", 307, 0.4, 1.0, ends=True),
    Role("unpost_soon", 3_000, "root_post", 3, 0.0, 0.3, ends=True),
    Role("unpost_late", 2_500, "root_post", 411, 0.3, 0.9, ends=True),
    Role("unreply", 1_800, "reply", 5, 0.0, 1.0, ends=True),
    Role("unrepost", 6_500, "repost", 35, 0.0, 1.0, ends=True),
    Role("unfollow", 8_500, "follow", 500, 0.0, 1.0, ends=True),
    Role("unfollow_batch", 80, "follow_batch", 20, 0.0, 1.0, ends=True),
    Role("unblock", 1_200, "block", 30, 0.0, 1.0, ends=True),
    Role("blog_update", 500, "blog_entry", 12, 0.0, 0.6),
    Role("blog_delete", 200, "blog_entry", 38, 0.3, 0.9, ends=True),
)
ROLES = (Role("like", _SHARE_UNIT - sum(role.share for role in _OTHERS)), *_OTHERS)
ROLE_NUMBER = {role.name: number for number, role in enumerate(ROLES)}
_FOLLOWED_NUMBER = tuple(ROLE_NUMBER[role.follows] if role.follows else -1 for role in ROLES)
_ENDS_OF = tuple(
    tuple(number for number, later in enumerate(ROLES) if later.ends and later.follows == role.name) for role in ROLES
)
_STARTS = tuple(sum(role.share for role in ROLES[:number]) for number in range(len(ROLES) + 1))


class Layout:
    """Where the roles of one minute stand."""

    __slots__ = ("_factor", "_inverse", "_offset", "count", "minute", "rounding", "shift", "starts")

    def __init__(self, minute: int, count: int, words: tuple[int, ...]) -> None:
        rounding = words[2] % _SHARE_UNIT
        self.minute = minute
        self.count = count
        self.starts = [(count * start + rounding) // _SHARE_UNIT for start in _STARTS]
        self.shift = words[3] >> 1
        self.rounding = fraction(words[6])
        self._offset = words[4] % count
        self._factor = _coprime(count, int(count * 0.618) + words[5] % 17)
        self._inverse = pow(self._factor, -1, count)

    def number_of(self, role: int) -> int:
        return self.starts[role + 1] - self.starts[role]

    def at(self, position: int) -> tuple[int, int]:
        """The role at a position, and its index within that role."""
        return self.role_of_slot((self._factor * position + self._offset) % self.count)

    def role_of_slot(self, slot: int) -> tuple[int, int]:
        role = bisect_right(self.starts, slot) - 1
        return role, slot - self.starts[role]

    def position(self, role: int, index: int) -> int:
        return self._inverse * (self.starts[role] + index - self._offset) % self.count


class Schedule:
    """The calendar of the network."""

    def __init__(self, randomness: Randomness, rate: float) -> None:
        if not 1.0 <= rate <= 20_000.0:
            raise ValueError(f"rate={rate}: a network makes between 1 and 20,000 events per second")
        self.rate = rate
        self._randomness = randomness
        self._layouts: dict[int, Layout] = {}

    @cached_property
    def seq_stride(self) -> int:
        """Sequence numbers per minute: enough for the busiest one, so that pages never share a number."""
        return int(self.rate * 60 * 2.2) + 500

    def layout(self, minute: int) -> Layout:
        layout = self._layouts.get(minute)
        if layout is None:
            if len(self._layouts) >= _LAYOUTS_KEPT:
                self._layouts.clear()
            words = self._randomness.words(b"minute", minute, 0)
            layout = self._layouts[minute] = Layout(minute, self._count(minute, words[0]), words)
        return layout

    def acted_upon(self, layout: Layout, role: int, index: int) -> tuple[int, int] | None:
        """The earlier (minute, position) that this unit acts upon; None if there is none left for it."""
        spec = ROLES[role]
        followed = _FOLLOWED_NUMBER[role]
        earlier = self.layout(layout.minute - spec.delay)
        first, width = _range(earlier, followed, spec)
        if index >= width:
            return None
        return earlier.minute, earlier.position(followed, first + (index + layout.shift) % width)

    def gone_minute(self, layout: Layout, role: int, index: int) -> int:
        """The minute that deletes the unit's record, or NEVER."""
        gone = NEVER
        for ending in _ENDS_OF[role]:
            spec = ROLES[ending]
            later = self.layout(layout.minute + spec.delay)
            first, width = _range(layout, role, spec)
            if 0 <= index - first < width and (index - first - later.shift) % width < later.number_of(ending):
                gone = min(gone, later.minute)
        return gone

    def _count(self, minute: int, noise: int) -> int:
        hour, past = divmod(minute, 60)
        before, after = _HOURLY_PER_MILLE[hour % 24], _HOURLY_PER_MILLE[(hour + 1) % 24]
        daily = (before * (60 - past) + after * past) / (60 * _MEAN_PER_MILLE)
        hourly = 0.94 + 0.12 * fraction(self._randomness.words(b"hour", hour, 0)[0])
        minutely = 0.92 + 0.16 * fraction(noise)
        return max(1, int(self.rate * 60 / EVENTS_PER_UNIT * daily * hourly * minutely + 0.5))


EVENTS_PER_UNIT = 1.0095
"""A few commits hold several operations."""


def _range(layout: Layout, role: int, spec: Role) -> tuple[int, int]:
    number = layout.number_of(role)
    # Rounded differently from minute to minute, so that small numbers do not favour one range for ever.
    first = int(number * spec.low + layout.rounding)
    return first, int(number * spec.high + layout.rounding) - first


def _coprime(count: int, factor: int) -> int:
    factor = max(1, factor)
    while math.gcd(factor, count) != 1:
        factor += 1
    return factor
