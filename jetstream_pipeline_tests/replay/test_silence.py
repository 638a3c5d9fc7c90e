"""A host that stalls, freezes or refuses: a replay ends, and calls whole what it has seen whole, and nothing else."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest

from jetstream_pipeline.events.crossing import crossing
from jetstream_pipeline.events.decode import Rejected, decode
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream import server, turns
from jetstream_pipeline.jetstream.errors import CursorTooOld, JetstreamError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.request import Request
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.jetstream.transport import Transport
from jetstream_pipeline.replay import reading
from jetstream_pipeline.replay.edges import Edges, Section
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.verify import verify_window
from jetstream_pipeline.storage import staging
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.hostile import identity
from jetstream_pipeline_tests.replay.hosts import SECOND, Commit, Internet, Killed, ModelHost, Trouble
from jetstream_pipeline_tests.windows import rows_of

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
NETWORK = [
    Commit(number % 11, number // 11, time_us)
    for number, time_us in enumerate(range(WINDOW.start_us - 300 * SECOND, WINDOW.end_us + 300 * SECOND, 5 * SECOND))
]
INSIDE = [commit.identity for commit in NETWORK if commit.time_us in range(WINDOW.start_us, WINDOW.end_us)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_FIRST_PAUSE_SEC", 0.0)
    monkeypatch.setattr(server, "_SIGN_OF_LIFE_SEC", 0.01)
    monkeypatch.setattr(staging, "_PART_ROWS", 1)


def replay(data: DataDirectory, *hosts: ModelHost) -> WindowSummary:
    for host in hosts:
        host.witness(NETWORK)
    with patch.object(server, "connected", Internet(hosts, 50).connected):
        return replay_window("network", Subscription(), WINDOW, hosts=[host.host for host in hosts], data=data)


def stored(data: DataDirectory) -> list[tuple[str, str]]:
    rows = rows_of(data.lake.events_path("network", WINDOW), ["did", "rev"]).to_pylist()
    return [(row["did"], row["rev"]) for row in rows]


@pytest.mark.parametrize("seconds", [12, 100, 170])
@pytest.mark.parametrize("after", [0, 300])
def test_a_host_that_scans_for_long_is_waited_for(data: DataDirectory, seconds: int, after: int) -> None:
    host = ModelHost("slow", troubles=[Trouble(pause_after=after, pause_sec=seconds)])
    assert replay(data, host).state is WindowState.COMPLETE
    assert stored(data) == INSIDE
    assert host.connections <= 2 + seconds // 30


@pytest.mark.parametrize("wrong", [1, 2])
def test_times_past_the_end_and_silence_after_them_end_no_window(data: DataDirectory, wrong: int) -> None:
    host = ModelHost("wrong", troubles=[Trouble(pause_after=400, pause_sec=60)])
    with patch.object(ModelHost, "messages", messages_with(wrong)):
        assert replay(data, host).state is WindowState.COMPLETE
    assert [one for one in stored(data) if one[0] != "did:plc:wrong"] == INSIDE


def messages_with(wrong: int):  # type: ignore[no-untyped-def]
    """A host's messages, with some in the middle of the window whose times lie past its end."""
    plain = ModelHost.messages

    def messages(self: ModelHost, cursor: int | None, trouble: Trouble) -> list[bytes]:
        found = plain(self, cursor, trouble)
        past = [identity(WINDOW.end_us + 60 * SECOND, number, "did:plc:wrong").encode() for number in range(wrong)]
        return [*found[: 400 - wrong], *past, *found[400 - wrong :]] if cursor else found

    return messages


def test_a_frozen_host_that_sends_the_last_seconds_again_and_again_is_left(data: DataDirectory) -> None:
    host = ModelHost("frozen", live=False)
    with patch(f"{__name__}.NETWORK", [commit for commit in NETWORK if commit.time_us < WINDOW.end_us - 600 * SECOND]):
        assert replay(data, host).state is WindowState.UNPROVEN
    assert host.connections < 50
    assert not data.lake.events_path("network", WINDOW).exists()


def test_a_host_that_refuses_every_cursor_after_a_while_is_given_up(data: DataDirectory) -> None:
    host = ModelHost("stubborn", troubles=[Trouble(cut_after=100)])
    host.witness(NETWORK)
    internet = Internet([host], 50)
    refusals = 0

    @asynccontextmanager
    async def connected(to: Host, request: Request, transport: Transport) -> AsyncIterator[object]:
        nonlocal refusals
        if host.connections and not request.subprotocol:
            refusals += 1
            raise CursorTooOld("too old")
        async with internet.connected(to, request, transport) as connection:
            yield connection

    with patch.object(server, "connected", connected), pytest.raises(JetstreamError, match="too old"):
        replay_window("network", Subscription(), WINDOW, hosts=[host.host], data=data)
    assert refusals < 30


def test_a_run_that_dies_when_it_has_seen_the_end_shows_it_again(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(reading, "_end_shown", die)
        with pytest.raises(Killed):
            replay(data, ModelHost("a"))
    slow = ModelHost("a", troubles=[Trouble(pause_after=0, pause_sec=3)])
    summary = replay(data, slow)
    assert (summary.state, summary.proof.resumptions) == (WindowState.COMPLETE, 1)
    assert stored(data) == INSIDE


def test_verifying_on_one_host_does_not_go_on_with_what_another_one_sent(data: DataDirectory) -> None:
    replay(data, ModelHost("first"))
    seeing, blind = ModelHost("seeing", kill_after=600), ModelHost("blind", blind=frozenset({1, 2, 3}))
    unseen = {f"did:plc:{repository}" for repository in blind.blind}
    for host in (seeing, blind):
        host.witness(NETWORK)
    with patch.object(server, "connected", Internet([seeing, blind], 50).connected):
        with pytest.raises(Killed):
            verify_window("network", WINDOW, hosts=[seeing.host], data=data)
        report = verify_window("network", WINDOW, hosts=[blind.host], data=data)
        assert (report.summary.state, report.blind) == (WindowState.COMPLETE, ("blind",))
        lacking = report.hosts[0].lacking_there
        assert lacking
        assert lacking.of == len(INSIDE)
        assert lacking.by_repository == Counter(did for did, _ in INSIDE if did in unseen)
        assert lacking.events == sum(lacking.by_repository.values())
        report = verify_window("network", WINDOW, hosts=[seeing.host], data=data)
    assert report.summary.state is WindowState.VERIFIED


def test_messages_that_are_none_are_not_kept_back_without_end() -> None:
    edges = Edges(WINDOW, 30 * SECOND)
    undecided = decode([identity(WINDOW.start_us, 1).encode()], "host").events
    assert not sum(part.events.num_rows for _, part in edges.cut(Part(undecided)))
    garbage = Part(rejected=tuple(Rejected(b"x", "none", 0) for _ in range(5_000)))
    given = [(section, part) for section, part in edges.cut(garbage) if part.rejected]
    assert [(section, len(part.rejected)) for section, part in given] == [(Section.WINDOW, 5_000)]


def test_two_commits_that_take_turns_cost_no_more_than_others() -> None:
    late, early = (identity(time, 1, f"did:plc:{time}").encode() for time in (2_000, 500))
    events = decode([late, early] * 10_000, "host").events
    assert crossing(events, 1_000) == (20_000, False)
    assert crossing(events.slice(0, 4_000), 1_000) == (0, False)
