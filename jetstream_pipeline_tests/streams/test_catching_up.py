"""What is asked for again: everything that can still be had, the oldest first, a few at a time, and no more often than
helps."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.streams.catching_up import Attempt, Known, Plan, plan, settled
from jetstream_pipeline.window import Window

FIRST = datetime(2026, 7, 4, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
GRACE = 10 * MINUTE
"""Beyond the settling, for the schedule."""


def window(number: int) -> Window:
    return Window.hour(FIRST + number * HOUR)


windows = st.integers(0, 70).map(window)
minutes = st.integers(0, 70 * 60).map(lambda number: FIRST + number * MINUTE)
attempts = st.builds(Attempt, st.integers(1, 100), minutes)


@dataclass(frozen=True)
class Asked:
    """What a plan is made of."""

    now: datetime
    known: Known
    settle: timedelta
    look_back: timedelta
    most: int

    def plan(self) -> Plan:
        return plan(FIRST, self.now, self.known, settle=self.settle, look_back=self.look_back, most=self.most)

    def is_settled(self, window: Window) -> bool:
        return window.end + self.settle + GRACE <= self.now

    def is_had_by_hosts(self, window: Window) -> bool:
        return not self.look_back or window.start >= self.now - self.look_back


questions = st.builds(
    Asked,
    now=minutes,
    known=st.builds(
        Known,
        whole=st.sets(windows),
        under_way=st.sets(windows, max_size=6),
        attempts=st.dictionaries(windows, attempts, max_size=20),
    ),
    settle=st.integers(0, 59).map(lambda number: number * MINUTE),
    look_back=st.integers(0, 72).map(lambda number: number * HOUR),
    most=st.integers(0, 10),
)


@given(questions)
def test_nothing_is_asked_for_that_is_whole_or_under_way_or_cannot_be_had(asked: Asked) -> None:
    for one in asked.plan().ask:
        assert one not in asked.known.whole
        assert one not in asked.known.under_way
        assert asked.is_settled(one)
        assert asked.is_had_by_hosts(one)


@given(questions)
def test_every_missing_window_is_asked_for_or_waits_or_is_lost(asked: Asked) -> None:
    planned = asked.plan()
    every = [window(number) for number in range(72)]
    missing = [one for one in every if asked.is_settled(one) and one not in asked.known.whole]
    idle = [one for one in missing if one not in asked.known.under_way]
    assert Counter([*planned.ask, *planned.waiting, *planned.lost]) == Counter(idle)
    assert planned.lost == tuple(one for one in idle if not asked.is_had_by_hosts(one))


@given(questions)
def test_there_are_at_most_so_many_under_way_and_the_oldest_comes_first(asked: Asked) -> None:
    planned = asked.plan()
    ours = [one for one in asked.known.under_way if one in asked.known.attempts]
    if planned.ask:
        assert len(planned.ask) + len(ours) <= asked.most
    for told in (planned.ask, planned.waiting, planned.lost):
        assert list(told) == sorted(told)
    room = len(planned.ask) + len(ours) < asked.most
    attempts = asked.known.attempts
    due = [one for one in planned.waiting if one not in attempts or attempts[one].next_at <= asked.now]
    assert not (room and due and asked.look_back)
    untried = [one for one in due if one not in attempts]
    assert not any(older < newer for older in untried for newer in planned.ask)
    assert not (planned.ask and untried and any(one in attempts for one in planned.ask))


@given(questions)
def test_what_was_asked_for_is_not_asked_for_again_before_its_pause_is_over(asked: Asked) -> None:
    attempts = asked.known.attempts
    assert all(attempts[one].next_at <= asked.now for one in asked.plan().ask if one in attempts)


@pytest.mark.parametrize(
    ("number", "pause"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (8, 128), (9, 240), (10_000, 240)]
)
def test_pauses_double_up_to_four_hours(number: int, pause: int) -> None:
    assert Attempt(number, FIRST).next_at == FIRST + pause * MINUTE


def test_an_hour_is_left_to_the_schedule_for_ten_minutes_after_it_has_settled() -> None:
    known = Known(frozenset(), frozenset(), {})
    for late, asked in ((14, ()), (15, (window(0),))):
        now = FIRST + HOUR + late * MINUTE
        assert plan(FIRST, now, known, settle=5 * MINUTE, look_back=36 * HOUR, most=8).ask == asked


def test_before_the_first_hour_nothing_has_settled() -> None:
    assert settled(FIRST, FIRST - HOUR, 0 * MINUTE) == []
    assert settled(FIRST, FIRST + 59 * MINUTE, 0 * MINUTE) == []
    assert settled(FIRST, FIRST + 2 * HOUR, 0 * MINUTE) == [window(0), window(1)]


@dataclass
class World:
    """Time goes by: what a plan asks for is run, and becomes whole or fails after a while."""

    ends: Callable[[Window, int], tuple[timedelta, bool]]
    """How long a window's attempt takes, and whether the window is whole then."""
    now: datetime
    most: int = 4
    whole: set[Window] = field(default_factory=set)
    running: dict[Window, tuple[datetime, bool]] = field(default_factory=dict)
    attempts: dict[Window, Attempt] = field(default_factory=dict)
    asked_at: dict[Window, list[datetime]] = field(default_factory=dict)
    planned: Plan | None = None

    def go_on(self, span: timedelta, step: timedelta = 5 * MINUTE) -> None:
        until = self.now + span
        while self.now < until:
            self.now += step
            for one in [one for one, (end, _) in self.running.items() if end <= self.now]:
                if self.running.pop(one)[1]:
                    self.whole.add(one)
            known = Known(self.whole, self.running.keys(), self.attempts)
            self.planned = plan(FIRST, self.now, known, settle=5 * MINUTE, look_back=36 * HOUR, most=self.most)
            for one in self.planned.ask:
                number = self.attempts[one].number + 1 if one in self.attempts else 1
                self.attempts[one] = Attempt(number, self.now)
                self.asked_at.setdefault(one, []).append(self.now)
                takes, whole = self.ends(one, number)
                self.running[one] = (self.now + takes, whole)
            assert len(self.running) <= self.most

    def within_look_back(self) -> set[Window]:
        return {one for one in settled(FIRST, self.now, 15 * MINUTE) if one.start >= self.now - 36 * HOUR}


@settings(max_examples=40)
@given(st.data())
def test_whatever_fails_for_a_while_everything_that_can_be_had_is_whole_in_the_end(data: st.DataObject) -> None:
    """The machine slept for up to two days; then attempts fail at random for a night, then no longer."""
    slept = data.draw(st.integers(0, 48))
    troubled = FIRST + (slept + 8) * HOUR
    chances = data.draw(st.randoms(use_true_random=False))

    def ends(one: Window, number: int) -> tuple[timedelta, bool]:
        return chances.randint(1, 45) * MINUTE, world.now > troubled or chances.random() < 0.4

    world = World(ends, now=FIRST + slept * HOUR)
    world.go_on(8 * HOUR)
    world.go_on(16 * HOUR)
    missing = world.within_look_back() - world.whole
    assert missing <= world.running.keys()
    assert world.planned
    assert world.planned.ask == world.planned.waiting == ()


def test_a_window_that_always_fails_is_asked_for_less_and_less_and_holds_up_no_other() -> None:
    bad = window(20)
    world = World(lambda one, _: (3 * MINUTE, one != bad), now=FIRST + 30 * HOUR, most=1)
    world.go_on(20 * HOUR)
    assert world.within_look_back() - world.whole == {bad}
    pauses = [later - earlier for earlier, later in pairwise(world.asked_at[bad])]
    least = [min(MINUTE * 2**number, 4 * HOUR) for number in range(len(pauses))]
    assert all(pause >= bound for pause, bound in zip(pauses, least, strict=True))
    assert pauses[-1] == 4 * HOUR
    assert all(len(asked) == 1 for one, asked in world.asked_at.items() if one != bad)


def test_windows_that_fail_slowly_leave_time_for_the_others() -> None:
    """Each attempt takes longer than the first pause."""
    bad = {window(number) for number in range(12, 20)}
    world = World(lambda one, _: (40 * MINUTE, one not in bad), now=FIRST + 30 * HOUR, most=4)
    world.go_on(12 * HOUR)
    assert world.within_look_back() - world.whole - bad <= world.running.keys()


def test_what_was_lost_comes_back_when_somebody_else_brings_it() -> None:
    known = Known({window(0)}, {window(1)}, {})
    planned = plan(FIRST, FIRST + 100 * HOUR, known, settle=5 * MINUTE, look_back=2 * HOUR, most=8)
    assert planned.lost[0] == window(2)
