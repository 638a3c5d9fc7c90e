"""A run goes on with what one that died has staged where both read the same, and speaks for both."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from jetstream_pipeline.jetstream import server, turns
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay import reading
from jetstream_pipeline.replay.evidence import Evidence
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.storage import staging
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.replay.hosts import SECOND, Commit, Internet, Killed, ModelHost, Trouble
from jetstream_pipeline_tests.windows import rows_of

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
SPAN = range(WINDOW.start_us - 300 * SECOND, WINDOW.end_us + 300 * SECOND, 5 * SECOND)
NETWORK = [Commit(number % 11, number // 11, time_us) for number, time_us in enumerate(SPAN)]
INSIDE = [commit for commit in NETWORK if commit.time_us in range(WINDOW.start_us, WINDOW.end_us)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_FIRST_PAUSE_SEC", 0.0)
    monkeypatch.setattr(staging, "_PART_ROWS", 1)
    monkeypatch.setattr("os.fsync", lambda _: None)


def of(*repositories: int) -> Subscription:
    return Subscription(dids=tuple(f"did:plc:{repository}" for repository in repositories))


def replay(data: DataDirectory, host: ModelHost, asked: Subscription, **options: Any) -> WindowSummary:
    host.witness(NETWORK)
    with patch.object(server, "connected", Internet([host]).connected):
        return replay_window("network", asked, WINDOW, hosts=[host.host], data=data, **options)


def dying(data: DataDirectory, asked: Subscription, troubles: Sequence[Trouble] = (), **options: Any) -> Evidence:
    """What a run that dies in the middle of the window has shown until then."""
    with pytest.raises(Killed):
        replay(data, ModelHost("a", troubles=troubles, kill_after=400), asked, **options)
    with staged(data, "network", WINDOW) as files:
        assert files.state
        return Evidence.model_validate_json(files.state)


def stored(data: DataDirectory) -> list[tuple[str, str]]:
    rows = rows_of(data.lake.events_path("network", WINDOW), ["did", "rev"]).to_pylist()
    return [(row["did"], row["rev"]) for row in rows]


def test_what_was_staged_for_another_filter_is_read_anew(data: DataDirectory) -> None:
    dying(data, of(1, 2))
    summary = replay(data, ModelHost("a"), of(2, 3))
    assert (summary.state, summary.proof.resumptions) == (WindowState.COMPLETE, 0)
    assert stored(data) == [commit.identity for commit in INSIDE if commit.repository in (2, 3)]


@pytest.mark.parametrize("seconds", [10, 120])
def test_what_was_staged_for_other_clocks_is_read_anew(data: DataDirectory, seconds: int) -> None:
    dying(data, Subscription())
    summary = replay(data, ModelHost("a"), Subscription(), skew=timedelta(seconds=seconds))
    assert (summary.state, summary.proof.resumptions) == (WindowState.COMPLETE, 0)
    assert summary.proof.cursor == WINDOW.start_us - 2 * seconds * SECOND
    assert stored(data) == [commit.identity for commit in INSIDE]


def test_what_another_version_has_staged_is_read_anew(data: DataDirectory) -> None:
    with patch.object(reading, "__version__", "0.0.1"):
        assert dying(data, Subscription()).version == "0.0.1"
    summary = replay(data, ModelHost("a"), Subscription())
    assert (summary.state, summary.proof.resumptions) == (WindowState.COMPLETE, 0)
    assert stored(data) == [commit.identity for commit in INSIDE]


def test_the_proof_speaks_for_the_run_that_died_too(data: DataDirectory) -> None:
    with patch.object(reading, "time", SimpleNamespace(monotonic=count(0, 100).__next__)):
        shown = dying(data, Subscription(), [Trouble(cut_after=after) for after in (90, 60, 60, 60)])
    summary = replay(data, ModelHost("a"), Subscription())
    proof = summary.proof
    assert (summary.state, proof.resumptions) == (WindowState.COMPLETE, 1)
    assert stored(data) == [commit.identity for commit in INSIDE]
    assert shown.connections == ["a: cut"] * 4
    assert proof.connections == (*shown.connections, "closed by us at the window's end")
    again = proof.repeats - shown.repeats
    assert shown.repeats > again > 0
    assert proof.start_shown_by == shown.start_shown_by
    assert shown.seconds >= 100
    assert shown.seconds < summary.seconds < shown.seconds + 100


def test_what_the_run_that_died_found_lost_stays_lost(data: DataDirectory) -> None:
    forgotten_us = WINDOW.start_us + 600 * SECOND
    shown = dying(data, Subscription(), [Trouble(forgotten_us=forgotten_us)] * 40)
    summary = replay(data, ModelHost("a"), Subscription())
    assert summary.state is WindowState.TRUNCATED
    assert len(summary.proof.clamps) == len(shown.gaps) == 1
    assert replay(data, ModelHost("a"), Subscription()).state is WindowState.COMPLETE


def test_a_replay_removes_what_nobody_can_go_on_with(data: DataDirectory) -> None:
    folders = []
    for hours, days in ((200, 4), (100, 2)):
        with staged(data, "network", Window.hour(WINDOW.start - timedelta(hours=hours))) as files:
            files.checkpoint("")
        for path in (*files.folder.iterdir(), files.folder):
            os.utime(path, (time.time() - days * 86_400,) * 2)
        folders.append(files.folder)
    replay(data, ModelHost("a"), Subscription())
    assert [folder.exists() for folder in folders] == [False, True]
