"""A window is whole only where that was shown, and its file says by what."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream import server, turns
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.replay import NotSettled, replay_window
from jetstream_pipeline.replay.verify import verify_window
from jetstream_pipeline.simulator import Network, Simulator, Witness, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline.warehouse.database import querying
from jetstream_pipeline.window import Window, to_us
from jetstream_pipeline_tests.replay.hosts import SECOND, Commit, Internet, ModelHost, Trouble
from jetstream_pipeline_tests.windows import rows_of

NETWORK = Network(rate=8)
WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
NOBODY = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
OLD = {"v2": False, "with_cursor": False}
WIRES = pytest.mark.parametrize("options", [OLD, {}], ids=["v1", "v2"])


def serving(stack: ExitStack, network: Network = NETWORK, **options: Any) -> Host:
    return Host.parse(stack.enter_context(running(Simulator(network, pong_timeout=60, **options))).address)


def replay(data: DataDirectory, *hosts: Host, dids: Sequence[str] = (), **options: Any) -> WindowSummary:
    return replay_window("network", Subscription(dids=tuple(dids)), WINDOW, hosts=hosts, data=data, **options)


def looking_back(age: timedelta) -> timedelta:
    """A look-back that begins so long after the window's start."""
    return datetime.now(UTC) - WINDOW.start - age


@WIRES
def test_a_window_without_any_event_of_its_filter_is_proven_complete(
    stack: ExitStack, data: DataDirectory, options: dict[str, Any]
) -> None:
    summary = replay(data, serving(stack, **options), dids=[NOBODY])
    assert (summary.state, summary.events) == (WindowState.COMPLETE, 0)
    assert summary.proof.start_shown_by
    assert summary.proof.end_shown_by
    assert summary.proof.position
    assert summary.proof.position > WINDOW.end
    assert summary.seconds < 30


def test_that_takes_seconds_on_a_network_of_some_size(stack: ExitStack, data: DataDirectory) -> None:
    summary = replay(data, serving(stack, Network(rate=150), **OLD), dids=[NOBODY])
    assert (summary.state, summary.events) == (WindowState.COMPLETE, 0)
    assert summary.seconds < 40


@WIRES
def test_what_shows_the_end_of_a_narrow_stream_is_not_kept(
    stack: ExitStack, data: DataDirectory, options: dict[str, Any]
) -> None:
    events = list(NETWORK.events(WINDOW.start_us, WINDOW.end_us))
    did = events[1_000].did
    summary = replay(data, serving(stack, **options), dids=[did])
    stored = rows_of(data.lake.events_path("network", WINDOW), ["did", "time_us"])
    assert summary.state is WindowState.COMPLETE
    assert set(stored["did"].to_pylist()) == {did}
    assert stored["time_us"].to_pylist() == [event.time_us for event in events if event.did == did]


@WIRES
@pytest.mark.parametrize("dids", [[], [NOBODY]], ids=["everything", "nobody"])
def test_a_look_back_shorter_than_the_windows_age_is_never_complete(
    stack: ExitStack, data: DataDirectory, options: dict[str, Any], dids: list[str]
) -> None:
    host = serving(stack, lookback=looking_back(timedelta(minutes=20)), **options)
    summary = replay(data, host, dids=dids)
    assert summary.state is WindowState.TRUNCATED
    (clamp,) = summary.proof.clamps
    assert clamp.host == host.name
    assert clamp.asked < WINDOW.start
    assert abs(clamp.begins - WINDOW.start - timedelta(minutes=20)) < timedelta(minutes=2)
    assert not data.lake.events_path("network", WINDOW).exists()
    with querying(data) as connection:
        (row,) = connection.execute("SELECT state, clamps[1].begins, start_shown_by FROM windows").fetchall()
    assert row == ("truncated", clamp.begins, None)


@WIRES
def test_a_host_that_has_the_start_is_found_behind_one_that_has_not(
    stack: ExitStack, data: DataDirectory, options: dict[str, Any]
) -> None:
    short = serving(stack, lookback=looking_back(timedelta(minutes=20)), **options)
    long = serving(stack, witness=Witness(offset=timedelta(seconds=1)), **options)
    summary = replay(data, short, long)
    assert (summary.state, summary.host) == (WindowState.COMPLETE, long.name)
    assert any("history begins" in ending for ending in summary.proof.connections)


def test_where_none_has_the_start_the_one_that_has_most_is_taken(stack: ExitStack, data: DataDirectory) -> None:
    hosts = [serving(stack, lookback=looking_back(timedelta(minutes=age)), **OLD) for age in (40, 10, 25)]
    summary = replay(data, *hosts)
    assert (summary.state, summary.host) == (WindowState.TRUNCATED, hosts[1].name)


def commits(every: int = 5) -> list[Commit]:
    span = range(WINDOW.start_us - 300 * SECOND, WINDOW.end_us + 300 * SECOND, every * SECOND)
    return [Commit(number % 11, number // 11, time_us) for number, time_us in enumerate(span)]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> ModelHost:
    """A host that ends in the middle of the window and has forgotten a quarter of an hour of it when asked again."""
    monkeypatch.setattr(turns, "_FIRST_PAUSE_SEC", 0.0)
    forgotten = Trouble(forgotten_us=WINDOW.start_us + 2_400 * SECOND)
    host = ModelHost("forgetful", troubles=[Trouble(cut_after=300), *[forgotten] * 50])
    host.witness(commits())
    return host


def test_what_a_host_forgets_between_two_connections_is_no_whole_window(
    forgetful: ModelHost, data: DataDirectory
) -> None:
    with patch.object(server, "connected", Internet([forgetful]).connected):
        summary = replay(data, forgetful.host)
    assert summary.state is WindowState.TRUNCATED
    assert [to_us(clamp.begins) for clamp in summary.proof.clamps] == [WINDOW.start_us + 2_400 * SECOND]


def test_what_a_host_forgets_between_two_connections_comes_from_another_one(
    forgetful: ModelHost, data: DataDirectory
) -> None:
    other = ModelHost("other", offset_us=9 * SECOND)
    other.witness(commits())
    with patch.object(server, "connected", Internet([forgetful, other]).connected):
        summary = replay(data, forgetful.host, other.host)
    assert summary.state is WindowState.COMPLETE
    assert summary.host == "forgetful,other"
    rows = rows_of(data.lake.events_path("network", WINDOW), ["did", "rev"]).to_pylist()
    found = [(row["did"], row["rev"]) for row in rows]
    assert len(found) == len(set(found))
    sure = range(WINDOW.start_us, WINDOW.end_us - 9 * SECOND)
    assert not {commit.identity for commit in commits() if commit.time_us in sure} - set(found)


@pytest.mark.parametrize(("beyond", "state"), [(0, "unproven"), (1, "unproven"), (2, "complete")])
def test_the_end_is_shown_by_more_than_one_commit_beyond_it(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, beyond: int, state: str
) -> None:
    monkeypatch.setattr(server, "_SIGN_OF_LIFE_SEC", 0.01)
    host = ModelHost("silent")
    later = [Commit(99 + number, 1, WINDOW.end_us + 60 * SECOND + number) for number in range(beyond)]
    host.witness([*(commit for commit in commits() if commit.time_us < WINDOW.end_us - 60 * SECOND), *later])
    with patch.object(server, "connected", Internet([host]).connected):
        summary = replay(data, host.host)
    assert summary.state == state
    assert data.lake.events_path("network", WINDOW).exists() == (state == "complete")
    assert data.lake.incomplete_path("network", WINDOW).exists() == (state == "unproven")


def test_a_window_that_has_only_just_ended_is_not_replayed_yet(data: DataDirectory) -> None:
    now = datetime.now(UTC)
    last, following = (Window.hour(now + timedelta(hours=number)) for number in (-1, 1))
    for window, settle in ((last, now - last.end + timedelta(minutes=2)), (following, timedelta(0))):
        with pytest.raises(NotSettled) as refused:
            replay_window("network", Subscription(), window, hosts=[], data=data, settle=settle)
        assert refused.value.passing


def test_another_filter_is_refused_with_the_difference_unless_it_shall_replace_the_history(
    stack: ExitStack, data: DataDirectory
) -> None:
    host = serving(stack)
    posts, likes = "app.bsky.feed.post", "app.bsky.feed.like"
    later = Window.hour(WINDOW.end)

    def take(window: Window, *collections: str, **options: Any) -> WindowSummary:
        return replay_window("network", Subscription(collections), window, hosts=[host], data=data, **options)

    old = take(WINDOW, posts, likes)
    with pytest.raises(InvalidInput, match=r"collections more app\.bsky\.graph\.\*; collections fewer .*like"):
        take(later, posts, "app.bsky.graph.*")
    assert take(later, posts, replace=True).fingerprint != old.fingerprint
    with pytest.raises(InvalidInput, match=r"collections more app\.bsky\.feed\.like\)"):
        take(WINDOW, posts, likes)
    assert take(WINDOW, posts).events < old.events
    with querying(data) as connection:
        (row,) = connection.execute("SELECT stream, fingerprint, collections, dids FROM streams").fetchall()
    assert row == ("network", Subscription((posts,)).fingerprint, [posts], [])


def test_a_filter_that_brought_no_window_binds_nobody(stack: ExitStack, data: DataDirectory) -> None:
    with pytest.raises(InvalidInput, match="400"):
        replay(data, serving(stack), dids=["did:plc:" + "a" * 2_060])
    assert replay(data, serving(stack)).state is WindowState.COMPLETE


def test_a_verified_window_stays_when_it_is_replayed_again(stack: ExitStack, data: DataDirectory) -> None:
    blind, seeing = serving(stack, blind=0.2), serving(stack, witness=Witness(seed=1))
    replay(data, blind)
    report = verify_window("network", WINDOW, hosts=[seeing], data=data)
    assert (report.summary.state, report.blind) == (WindowState.VERIFIED, (blind.name,))
    assert replay(data, blind) == report.summary


def test_the_view_says_all_that_the_proof_says(stack: ExitStack, data: DataDirectory) -> None:
    summary = replay(data, serving(stack))
    with querying(data) as connection:
        relation = connection.sql("SELECT * FROM windows")
        row = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    proof = summary.proof
    assert (row["start_shown_by"], row["end_shown_by"]) == (proof.start_shown_by, proof.end_shown_by)
    assert row["position"] == proof.position
    assert tuple(row["connections"]) == proof.connections == ("closed by us at the window's end",)
    assert (row["repeats"], row["resumptions"], row["repaired"], row["clamps"]) == (0, 0, 0, [])
    assert (row["host"], row["wire"], row["version"]) == (summary.host, "v2", summary.version)
    assert row["first_time"] == summary.first_time
    assert row["verifications"] == []


def test_a_damaged_window_is_mended_by_replaying_it(stack: ExitStack, data: DataDirectory) -> None:
    host = serving(stack)
    path = data.lake.events_path("network", WINDOW)
    replay(data, host)
    sound = pq.ParquetFile(path).read()
    path.write_bytes(path.read_bytes()[:-100])
    assert replay(data, host).state is WindowState.COMPLETE
    assert pq.ParquetFile(path).read().equals(sound)
