"""The command line as a person meets it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jetstream_pipeline.settings import MAIN_COLLECTIONS, described
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.cli.commands import run as run_here
from jetstream_pipeline_tests.cli.commands import told

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=2))
SPAN = ("--start", WINDOW.start.isoformat(), "--end", WINDOW.end.isoformat())


@contextmanager
def simulating(*options: str) -> Iterator[str]:
    """`jetstream-pipeline simulate` in a process of its own; its address."""
    command = [sys.executable, "-m", "jetstream_pipeline", "simulate", "--port", "0", "--rate", "2", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout
        found = re.search(r"ws://\S+", process.stdout.readline())
        assert found
        yield found[0]
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with simulating() as address:
        yield address


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    command = [sys.executable, "-m", "jetstream_pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=60)


def test_replay_prints_a_complete_window_of_the_wanted_collection(host: str, tmp_path: Path) -> None:
    options = ("-c", "app.bsky.feed.post", "--json")
    result = run("replay", *SPAN, *options, JETSTREAM_HOSTS=host, JETSTREAM_DATA_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["state"] == "complete"
    assert list(summary["counts_by_collection"]) == ["app.bsky.feed.post"]
    assert (tmp_path / "lake" / "network" / "events").is_dir()


def replayed(folder: Path, host: str, *options: str) -> dict[str, Any]:
    """The summary that `replay --json` prints for the window."""
    result = told(folder, "replay", *SPAN, "--json", "-i", host, *options)
    assert result.returncode in (0, 1), result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    assert (summary["state"] == "complete") == (result.returncode == 0)
    return summary


def test_replay_keeps_the_wanted_repositories_and_derives_no_tables_unasked(host: str, tmp_path: Path) -> None:
    events = list(Network(rate=2).events(WINDOW.start_us - 60_000_000, WINDOW.end_us + 60_000_000))
    main = [event for event in events if event.collection is None or event.collection in MAIN_COLLECTIONS]
    dids = {
        next(event.did for event in reversed(main) if event.time_us < WINDOW.start_us),
        next(event.did for event in main if event.time_us >= WINDOW.end_us),
    }
    wanted = [argument for did in dids for argument in ("-d", did)]
    summary = replayed(tmp_path, host, *wanted, "--no-tables", "--stream", "mine")
    inside = [event for event in main if event.did in dids and WINDOW.start_us <= event.time_us < WINDOW.end_us]
    assert (summary["state"], summary["events"]) == ("complete", len(inside))
    assert [path.name for path in (tmp_path / "lake").rglob("*.parquet")] == ["events.parquet"]
    assert (tmp_path / "lake" / "mine").is_dir()


def test_simulates_seed_look_back_and_cuts_are_the_ones_asked_for(tmp_path: Path) -> None:
    expected = sum(
        event.collection is None or event.collection in MAIN_COLLECTIONS
        for event in Network(seed=5, rate=2).events(WINDOW.start_us, WINDOW.end_us)
    )
    with simulating("--seed", "5", "--cut-after", "500", "--cut-after", "300") as host:
        summary = replayed(tmp_path / "cut", host)
    assert (summary["state"], summary["events"]) == ("complete", expected)
    assert len(summary["proof"]["connections"]) >= 3
    with simulating("--lookback-hours", "1.5") as host:
        assert replayed(tmp_path / "short", host)["state"] == "truncated"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (SPAN, {"JETSTREAM_HOSTS": "http://a"}, "JETSTREAM_HOSTS: 'http://a' is not a host"),
        ((*SPAN, "-i", "not a host"), {}, "is not a host"),
        ((*SPAN, "-i", "a..b"), {}, "is not a host"),
        ((*SPAN, "-i", "ws://127.0.0.1:1"), {}, "cannot reach 127.0.0.1:1"),
        ((*SPAN, "-c", "posts"), {}, "is not a collection"),
        ((*SPAN, "--collections", "app.bsky.feed.post"), {}, "No such option"),
        ((), {}, "Missing option"),
        ((*SPAN, "--stream", "../x"), {}, "cannot name a stream"),
        (("--start", "yesterday", "--end", "today"), {}, "is not a time"),
        (("--start", "2026-01-01-00:30", "--end", "2026-01-01-02:00"), {}, "not on the hour"),
        (("--start", "0001-01-01T00:00+14:00", "--end", "2026-01-01-02:00"), {}, "is not a time"),
        (SPAN, {"JETSTREAM_DATA_DIR": "/dev/null/data"}, "cannot create"),
        (SPAN, {"JETSTREAM_DATA_DIR": "/tmp/did=a"}, "has '=' in it"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    result = told(tmp_path, "replay", *arguments, **environment)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_process_ends_so_too(tmp_path: Path) -> None:
    result = run("replay", JETSTREAM_DATA_DIR=str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch("jetstream-pipeline: Missing option .*\n", result.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "--timeout", "nan"),
        ("iceberg", "expire", "--older-than", "nan"),
        ("iceberg", "expire", "--older-than", "7 days"),
        ("iceberg", "expire", "--older-than", "1000000000000.0"),
        ("stream", "--max-time", "nan"),
        ("queue", "drain", "jobs", "--lease", "inf"),
        ("simulate", "--offset", "nan"),
    ],
)
def test_what_is_no_number_is_refused_in_one_line(arguments: tuple[str, ...], data: DataDirectory) -> None:
    result = run_here(data, *arguments)
    assert result.exit_code == 2
    assert f"{arguments[-2]}': {arguments[-1]} is not" in result.output


def test_help_lists_every_variable_and_breaks_no_value_apart() -> None:
    words = [word.strip(",") for word in run("--help").stdout.split()]
    for name, _, default in described():
        assert name in words
        assert set(default.split(", ")) <= {*words, ""}
