"""The command line as a person meets it: in a process of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jetstream_pipeline.settings import described
from jetstream_pipeline.window import Window

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=2))
SPAN = ("--start", WINDOW.start.isoformat(), "--end", WINDOW.end.isoformat())


@pytest.fixture
def host() -> Iterator[str]:
    command = [sys.executable, "-m", "jetstream_pipeline", "simulate", "--port", "0", "--rate", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert process.stdout
    found = re.search(r"ws://\S+", process.stdout.readline())
    assert found
    yield found[0]
    process.terminate()
    assert process.wait(10) == 0


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jetstream_pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=60)


def test_replay_prints_a_complete_window_of_the_wanted_collection(host: str, tmp_path: Path) -> None:
    result = run(
        "replay", *SPAN, "-c", "app.bsky.feed.post", "--json", JETSTREAM_HOSTS=host, JETSTREAM_DATA_DIR=str(tmp_path)
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["state"] == "complete"
    assert list(summary["counts_by_collection"]) == ["app.bsky.feed.post"]
    assert (tmp_path / "lake" / "network" / "events").is_dir()


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
    result = run("replay", *arguments, **{"JETSTREAM_DATA_DIR": str(tmp_path), **environment})
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_help_lists_every_variable() -> None:
    text = run("--help").stdout
    assert all(name in text for name, _, _ in described())
