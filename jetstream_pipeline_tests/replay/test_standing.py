"""A window that stands is replaced, verified and mixed with others only by what is of its filter and proves more."""

from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream import server
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay import replay as replaying
from jetstream_pipeline.replay.reading import read_window
from jetstream_pipeline.replay.replay import NotSettled, replay_window
from jetstream_pipeline.replay.streams import subscription_of
from jetstream_pipeline.replay.verify import Report, verify_window
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary, read_summary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.replay.hosts import SECOND, Commit, Internet, ModelHost
from jetstream_pipeline_tests.windows import rows_of

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=4))
LATER = Window.hour(WINDOW.end)
NETWORK = [
    Commit(number % 11, number // 11, time_us)
    for number, time_us in enumerate(range(WINDOW.start_us - 300 * SECOND, LATER.end_us + 300 * SECOND, 5 * SECOND))
]
ALL, SOME = Subscription(), Subscription(dids=("did:plc:1", "did:plc:2"))
WANTED = range(11)


@pytest.fixture(autouse=True)
def hosts() -> Iterator[dict[str, ModelHost]]:
    """Four of the network's hosts; three of them see less than there is."""
    blind = {"first": {1, 2}, "second": {3}, "third": {4, 5}, "seeing": set[int]()}
    hosts = {name: ModelHost(name, blind=frozenset(repositories)) for name, repositories in blind.items()}
    for host in hosts.values():
        host.witness(NETWORK)
    with patch.object(server, "connected", Internet(list(hosts.values()), 200).connected):
        yield hosts


def replay(data: DataDirectory, name: str, asked: Subscription = ALL, **options: Any) -> WindowSummary:
    return replay_window("network", asked, **{"window": WINDOW, "hosts": [ModelHost(name).host], **options}, data=data)


def verify(data: DataDirectory, name: str, **options: Any) -> Report:
    return verify_window("network", WINDOW, hosts=[ModelHost(name).host], data=data, **options)


def stored(data: DataDirectory) -> set[tuple[str, str]]:
    rows = rows_of(data.lake.events_path("network", WINDOW), ["did", "rev"]).to_pylist()
    return {(row["did"], row["rev"]) for row in rows}


def inside(*repositories: int) -> set[tuple[str, str]]:
    times = range(WINDOW.start_us, WINDOW.end_us)
    return {commit.identity for commit in NETWORK if commit.time_us in times and commit.repository in repositories}


def test_a_window_repaired_without_agreement_stays_when_it_is_replayed_again(data: DataDirectory) -> None:
    replay(data, "first")
    report = verify(data, "second")
    assert (report.summary.state, report.repaired) == (WindowState.COMPLETE, report.summary.repaired)
    assert replay(data, "first") == report.summary
    assert stored(data) == inside(*WANTED)


def test_a_verified_window_of_another_filter_is_replayed(data: DataDirectory) -> None:
    replay(data, "second")
    assert verify(data, "seeing").summary.state is WindowState.VERIFIED
    summary = replay(data, "seeing", SOME, replace=True)
    assert (summary.state, summary.fingerprint) == (WindowState.COMPLETE, SOME.fingerprint)
    assert stored(data) == inside(1, 2)


def test_a_verified_window_stays_verified_though_another_host_sees_less(data: DataDirectory) -> None:
    replay(data, "first")
    verified = verify(data, "seeing").summary
    report = verify(data, "third")
    assert (verified.state, report.summary.state) == (WindowState.VERIFIED, WindowState.VERIFIED)
    assert (report.hosts[0].agreed, report.blind) == (False, ("third",))
    assert report.summary.reason == verified.reason == "seeing has the same events"
    assert [one.agreed for one in report.summary.verifications] == [True, False]
    assert stored(data) == inside(*WANTED)


def test_a_window_that_has_only_just_ended_is_not_verified_yet(
    data: DataDirectory, hosts: dict[str, ModelHost]
) -> None:
    replay(data, "first")
    with pytest.raises(NotSettled):
        verify(data, "seeing", settle=timedelta(days=1_000))
    assert hosts["seeing"].connections == 0


def test_a_window_of_a_filter_that_its_stream_no_longer_has_is_not_verified(
    data: DataDirectory, hosts: dict[str, ModelHost]
) -> None:
    old = replay(data, "first")
    replay(data, "first", SOME, window=LATER, replace=True)
    with pytest.raises(InvalidInput, match="a filter that the stream no longer has"):
        verify(data, "seeing")
    assert hosts["seeing"].connections == 0
    assert read_summary(data.lake.events_path("network", WINDOW)) == old


def test_another_filter_is_refused_before_any_host_is_asked(data: DataDirectory) -> None:
    replay(data, "seeing", SOME)

    @asynccontextmanager
    async def connected(*_: object) -> Any:
        pytest.fail("asked")
        yield

    with (
        patch.object(server, "connected", connected),
        pytest.raises(InvalidInput, match="has other events than asked for now"),
    ):
        replay(data, "seeing", window=LATER)


def test_another_filter_is_refused_though_the_stream_got_its_own_only_meanwhile(data: DataDirectory) -> None:
    def overtaken(*arguments: Any) -> Any:
        evidence = read_window(*arguments)
        with patch.object(replaying, "read_window", read_window):
            replay(data, "seeing", SOME, window=LATER)
        return evidence

    with (
        patch.object(replaying, "read_window", overtaken),
        pytest.raises(InvalidInput, match="repositories did:plc:1, did:plc:2 so far, all now"),
    ):
        replay(data, "seeing")
    assert subscription_of(data, "network") == SOME
    assert not data.lake.events_path("network", WINDOW).exists()
