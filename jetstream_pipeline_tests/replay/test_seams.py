"""Whatever hosts windows come from, in whatever order, through whatever trouble: together they hold each event once."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetstream_pipeline.jetstream import server, turns
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.seams import Seams
from jetstream_pipeline.replay.verify import verify_window
from jetstream_pipeline.storage import staging
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary, read_summary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.replay.hosts import SECOND, Commit, Internet, Killed, ModelHost, Trouble
from jetstream_pipeline_tests.windows import rows_of

FIRST = Window.hour(datetime.now(UTC) - timedelta(hours=5))
WINDOWS = [Window.hour(FIRST.start + timedelta(hours=number)) for number in range(3)]
EDGES = [window.start_us for window in WINDOWS] + [WINDOWS[-1].end_us]
CLOCKS = 14 * SECOND
_EXAMPLES = int(os.environ.get("JETSTREAM_TEST_EXAMPLES", "40"))


@st.composite
def networks(draw: st.DrawFn) -> list[Commit]:
    """Commits every few minutes, and close together around the windows' edges."""
    times = [
        *range(EDGES[0] - 600 * SECOND, EDGES[-1] + 600 * SECOND, 200 * SECOND),
        *(edge + shift * SECOND for edge in EDGES for shift in range(-100, 101, 5)),
        *(
            edge + shift
            for edge in EDGES
            for shift in draw(st.lists(st.integers(-30 * SECOND, 30 * SECOND), max_size=6))
        ),
        *(edge + shift for edge in EDGES for shift in draw(st.lists(st.integers(-SECOND, SECOND), max_size=12))),
    ]
    repositories = draw(st.lists(st.integers(0, 40), min_size=len(times), max_size=len(times)))
    numbers: Counter[int] = Counter()
    commits = []
    for repository, time_us in zip(repositories, sorted(times), strict=True):
        numbers[repository] += 1
        commits.append(Commit(repository, numbers[repository], time_us))
    return commits


TROUBLES = st.builds(
    Trouble,
    cut_after=st.none() | st.integers(1, 150),
    disorder_us=st.integers(0, 2 * SECOND),
    early_us=st.sampled_from((0, 0, 40 * SECOND, 1_800 * SECOND, 3_600 * SECOND)),
    repeat=st.integers(0, 9),
)


@st.composite
def hosts(draw: st.DrawFn, name: str, size: int) -> ModelHost:
    return ModelHost(
        name,
        offset_us=draw(st.integers(-CLOCKS, CLOCKS)),
        delays=draw(st.lists(st.integers(-SECOND, SECOND), min_size=1, max_size=9)),
        imported=frozenset(draw(st.lists(st.integers(0, size - 1), max_size=12))),
        troubles=draw(st.lists(TROUBLES, max_size=8)),
        kill_after=draw(st.none() | st.integers(1, 400)),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_FIRST_PAUSE_SEC", 0.0)
    monkeypatch.setattr(staging, "_PART_ROWS", 20)
    monkeypatch.setattr("os.fsync", lambda _: None)


def stored(data: DataDirectory, windows: Sequence[Window]) -> Iterator[tuple[str, str]]:
    for window in windows:
        rows = rows_of(data.lake.events_path("network", window), ["did", "rev"])
        yield from zip(rows["did"].to_pylist(), rows["rev"].to_pylist(), strict=True)


def replay(data: DataDirectory, window: Window, sources: Sequence[ModelHost]) -> WindowSummary:
    """As often as it takes: a process that dies is followed by another one."""
    while True:
        try:
            return replay_window(
                "network", Subscription(), window, hosts=[source.host for source in sources], data=data
            )
        except Killed:
            pass


@pytest.mark.timeout(900)
@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_the_windows_together_hold_each_event_once(drawn: st.DataObject) -> None:
    network = drawn.draw(networks())
    sources = [drawn.draw(hosts(name, len(network))) for name in ("a", "b", "c")]
    for source in sources:
        source.witness(network)
    order = drawn.draw(st.permutations(WINDOWS))
    chunk = drawn.draw(st.integers(1, 40))
    with tempfile.TemporaryDirectory() as folder, patch.object(server, "connected", Internet(sources, chunk).connected):
        data = DataDirectory(Path(folder))
        for window in order:
            summary = replay(data, window, drawn.draw(st.permutations(sources)))
            assert summary.state is WindowState.COMPLETE
        found = Counter(stored(data, WINDOWS))
        assert set(found.values()) == {1}
        sure = range(EDGES[0] + CLOCKS + 3 * SECOND, EDGES[-1] - CLOCKS - 3 * SECOND)
        assert [commit for commit in network if commit.time_us in sure and commit.identity not in found] == []


def apart() -> tuple[ModelHost, ModelHost, list[Commit]]:
    """Two hosts whose clocks differ by as much as windows are to meet across, and their network."""
    network = [Commit(n % 7, n // 7, EDGES[0] - 600 * SECOND + n * 2 * SECOND) for n in range(6_600)]
    early, late = ModelHost("early", -CLOCKS), ModelHost("late", CLOCKS)
    for host in (early, late):
        host.witness(network)
    return early, late, network


def test_a_window_replayed_again_on_another_host_still_meets_its_neighbours(tmp_path: Path) -> None:
    early, late, _ = apart()
    data = DataDirectory(tmp_path)
    with patch.object(server, "connected", Internet([early, late], 500).connected):
        for number, host in ((0, early), (1, late), (2, early), (1, early), (1, late), (0, late), (2, late)):
            replay(data, WINDOWS[number], [host])
        found = Counter(stored(data, WINDOWS))
        assert set(found.values()) == {1}
        assert len(found) >= 3 * 1_800 - 14
        middle = read_summary(data.lake.events_path("network", WINDOWS[1]))
        assert middle.proof.left_to_neighbours > 0
        first = read_summary(data.lake.events_path("network", WINDOWS[0]))
        assert first.proof.taken_from_beyond > 0
        verified = [verify_window("network", window, hosts=[early.host], data=data) for window in WINDOWS]
    assert [report.summary.state for report in verified] == [WindowState.VERIFIED] * 3
    assert [report.repaired for report in verified] == [0] * 3


@pytest.mark.parametrize("chunk", [1, 13])
def test_a_run_that_dies_anywhere_is_gone_on_with_whatever_times_its_host_shows(tmp_path: Path, chunk: int) -> None:
    network = [Commit(n % 5, n // 5, EDGES[0] - 300 * SECOND + n * 20 * SECOND) for n in range(230)]
    resumed = 0
    for kill_after in range(5, 220, 7):
        host = ModelHost("a", imported=frozenset(range(0, 230, 9)), kill_after=kill_after)
        host.witness(network)
        data = DataDirectory(tmp_path / str(kill_after))
        with patch.object(server, "connected", Internet([host], chunk).connected):
            summary = replay(data, WINDOWS[0], [host])
        inside = [commit for commit in network if commit.time_us in range(EDGES[0], EDGES[1])]
        assert list(stored(data, [WINDOWS[0]])) == [commit.identity for commit in inside]
        resumed += summary.proof.resumptions
    assert resumed > 10


def within(network: Sequence[Commit], start_us: int, end_us: int) -> list[tuple[str, str]]:
    return [commit.identity for commit in network if commit.time_us in range(start_us, end_us)]


@pytest.mark.parametrize("asked", [Subscription(), Subscription(kinds=("commit",))], ids=["same", "another"])
def test_only_neighbours_of_the_same_filter_have_a_say(tmp_path: Path, asked: Subscription) -> None:
    early, late, network = apart()
    data = DataDirectory(tmp_path)
    with patch.object(server, "connected", Internet([early, late], 500).connected):
        replay(data, WINDOWS[0], [late])
        replay(data, WINDOWS[2], [late])
        summary = replay_window("network", asked, WINDOWS[1], hosts=[early.host], data=data, replace=True)
    start_us, end_us = EDGES[1] + CLOCKS, EDGES[2] + CLOCKS
    between = CLOCKS if asked == Subscription() else 0
    assert list(stored(data, [WINDOWS[1]])) == within(network, start_us - 2 * between, end_us - 2 * between)
    count = between // SECOND
    assert (summary.proof.taken_from_beyond, summary.proof.left_to_neighbours) == (count, count)


@pytest.mark.parametrize(("when", "in_all"), [(1, 4), (2, 5)])
def test_a_window_settles_again_with_a_neighbour_that_was_replaced_meanwhile(
    tmp_path: Path, when: int, in_all: int
) -> None:
    """While it was read, or while its file was finished; the other replay reads its seams twice, too."""
    early, late, network = apart()
    data = DataDirectory(tmp_path)
    read, readings = Seams.read, 0

    def overtaken(*arguments: Any) -> Seams:
        nonlocal readings
        readings += 1
        seams = read(*arguments)
        if readings == when:
            replay(data, WINDOWS[0], [late])
        return seams

    with patch.object(server, "connected", Internet([early, late], 500).connected):
        replay(data, WINDOWS[0], [early])
        with patch.object(Seams, "read", overtaken):
            summary = replay(data, WINDOWS[1], [early])
    assert readings == in_all
    assert summary.proof.taken_from_beyond == 2 * CLOCKS // (2 * SECOND)
    both = within(network, EDGES[0] - CLOCKS, EDGES[2] + CLOCKS)
    assert sorted(stored(data, WINDOWS[:2])) == sorted(both)


@pytest.mark.parametrize(("neighbour", "state"), [(0, "unproven"), (2, "complete"), (None, "complete")])
def test_a_seam_to_the_window_before_is_not_shown_by_a_host_that_lacks_what_lies_there(
    tmp_path: Path, neighbour: int | None, state: str
) -> None:
    early, late, _ = apart()
    data = DataDirectory(tmp_path)
    late.troubles = [Trouble(forgotten_us=EDGES[1] - 10 * SECOND)] * 60
    with patch.object(server, "connected", Internet([early, late], 500).connected):
        if neighbour is not None:
            replay(data, WINDOWS[neighbour], [early])
        summary = replay(data, WINDOWS[1], [late])
    assert summary.state == state
    assert len(summary.proof.clamps) == 1
    assert ("the seam to it cannot be shown" in summary.reason) == (state == "unproven")
    assert data.lake.events_path("network", WINDOWS[1]).exists() == (state == "complete")
    assert data.lake.incomplete_path("network", WINDOWS[1]).exists() == (state == "unproven")
