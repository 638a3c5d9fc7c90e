"""Which host is asked next, and when all of them have failed."""

import asyncio

import pytest

from jetstream_pipeline.jetstream import turns
from jetstream_pipeline.jetstream.errors import Busy, Gap, HistoryMissing, JetstreamError, Refused
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Options, Server
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.jetstream.turns import Turns

DOWN = JetstreamError("cannot be reached")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_FIRST_PAUSE_SEC", 0.0)


@pytest.fixture
def servers() -> list[Server]:
    return [Server(Host.parse(f"host{number}"), Subscription(), Options(), print) for number in range(3)]


def turn(one: Turns, error: JetstreamError | Refused = DOWN, *, reached: bool = True, alone: bool = False) -> str:
    asyncio.run(one.turn(error, reached=reached, alone=alone))
    return one.current.host.name


def turns_until_raised(one: Turns, error: JetstreamError, *, reached: bool) -> int:
    for number in range(1, 1_000):
        try:
            turn(one, error, reached=reached)
        except JetstreamError:
            return number
    return 0


def missing(host: str, begins_us: int) -> HistoryMissing:
    return HistoryMissing(Gap(host, 0, begins_us))


def test_hosts_are_asked_in_their_order_and_from_the_first_one_again(servers: list[Server]) -> None:
    one = Turns(servers, persistent=False)
    assert [turn(one) for _ in range(4)] == ["host1", "host2", "host0", "host1"]
    assert turn(one, alone=True) == "host1"


@pytest.mark.parametrize(
    ("error", "reached", "persistent", "asked"),
    [
        (DOWN, False, False, 4 * 3),
        (DOWN, False, True, 4 * 3),
        (Busy("warms up"), False, False, 10 * 3),
        (DOWN, True, False, 6 * 3),
        (DOWN, True, True, 0),
    ],
)
def test_hosts_that_fail_are_asked_so_many_times(
    servers: list[Server], error: JetstreamError, reached: bool, persistent: bool, asked: int
) -> None:
    assert turns_until_raised(Turns(servers, persistent), error, reached=reached) == asked


def test_a_host_that_served_makes_the_others_failures_forgotten(servers: list[Server]) -> None:
    one = Turns(servers, persistent=False)
    for _ in range(5):
        for _ in range(10):
            turn(one)
        one.served()
    assert turns_until_raised(one, DOWN, reached=True) == 6 * 3


def test_a_host_that_refuses_is_asked_no_more_and_where_all_do_the_first_ones_answer_is_told(
    servers: list[Server],
) -> None:
    one = Turns(servers, persistent=True)
    servers[0].refused = Refused("not this")
    assert [turn(one) for _ in range(3)] == ["host1", "host2", "host1"]
    servers[1].refused = servers[2].refused = Refused("nor that")
    with pytest.raises(Refused, match="not this"):
        turn(one)


def test_where_no_other_host_would_do_its_refusal_ends_it(servers: list[Server]) -> None:
    one = Turns(servers, persistent=True)
    servers[0].refused = Refused("too old")
    with pytest.raises(Refused, match="too old"):
        turn(one, alone=True)


def test_where_all_lack_history_the_one_with_most_is_excused(servers: list[Server]) -> None:
    one = Turns(servers, persistent=False)
    turn(one, missing("host0", 30))
    turn(one, missing("host1", 10))
    assert one.excused is None
    assert turn(one, missing("host2", 20)) == "host1"
    assert one.excused is servers[1]


def test_a_host_that_lacks_history_is_excused_once_the_others_stay_away(servers: list[Server]) -> None:
    one = Turns(servers, persistent=False)
    turn(one, missing("host0", 30))
    asked = 1
    while one.excused is None:
        turn(one)
        asked += 1
    assert (one.current.host.name, asked) == ("host0", 6 * 3)
