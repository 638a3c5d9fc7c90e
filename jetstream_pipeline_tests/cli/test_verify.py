"""What follows a window's verification: its tables, what is told of it, and the windows after it. The comparison itself
is tested beside its use case."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from click.testing import Result
from websockets.sync.server import ServerConnection

from jetstream_pipeline.cli import verify as command
from jetstream_pipeline.cli import windows
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay import replay as replaying
from jetstream_pipeline.replay.comparison import Lack
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.verify import HostReport, Report
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline.tables.build import build_stale, build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.cli.commands import NEXT, fill, grow, run, texts
from jetstream_pipeline_tests.hostile import Script, identity, sending, serving
from jetstream_pipeline_tests.windows import HOUR

NONE = Lack(events=0, of=9, repositories=0, by_collection={}, by_repository={})
Answer = Callable[[Window], Report]
SECOND = 1_000_000
PAST = Window.hour(datetime.now(UTC) - timedelta(hours=3))
TIMES = range(PAST.start_us - 200 * SECOND, PAST.end_us + 200 * SECOND, 20 * SECOND)
EVENTS = sending([identity(time_us, time_us) for time_us in TIMES])


@pytest.fixture
def data(data: DataDirectory) -> DataDirectory:
    """Two windows of one post each, the first one with its tables."""
    fill(data)
    return data


def verify(monkeypatch: pytest.MonkeyPatch, data: DataDirectory, answer: Answer, *options: str) -> Result:
    """The command over both windows, where the comparison brings what `answer` says."""
    monkeypatch.setattr(command, "verify_window", lambda stream, window, **_: answer(window))
    return run(data, "verify", "--from", HOUR.start.isoformat(), "--to", NEXT.end.isoformat(), *options)


def verify_past(data: DataDirectory, script: Script, **environment: str) -> Result:
    """The command over a window from one host, where the environment names another one, which does what `script`
    says."""
    with serving(EVENTS) as own, serving(script) as other:
        replay_window("network", Subscription(), PAST, hosts=[own], data=data)
        span = ("--from", PAST.start.isoformat(), "--to", PAST.end.isoformat())
        return run(data, "verify", *span, JETSTREAM_HOSTS=f"ws://{other.name}", **environment)


def report(data: DataDirectory, window: Window, lacking_there: Lack = NONE, note: str | None = None) -> Report:
    state = WindowState.COMPLETE if lacking_there.events else WindowState.VERIFIED
    summary = read_summary(data.lake.events_path("network", window)).model_copy(update={"state": state})
    lacks = {} if note else {"lacking_here": NONE, "lacking_there": lacking_there}
    host = HostReport(host="other", agreed=not lacking_there.events, note=note, **lacks)
    return Report(summary=summary, hosts=(host,), blind=())


def versions(data: DataDirectory) -> Sequence[tuple[int, int]]:
    paths = [data.lake.table_path("network", table.name, HOUR) for table in TABLES]
    return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]


def test_tables_that_a_run_that_died_has_left_old_are_derived(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(data)
    assert verify(monkeypatch, data, lambda window: report(data, window), "--no-tables").exit_code == 0
    assert texts(data) == ["first"]
    assert verify(monkeypatch, data, lambda window: report(data, window)).exit_code == 0
    assert texts(data) == ["first", "second"]


def test_tables_are_derived_where_a_later_host_could_not_be_asked(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merge_and_fail(window: Window) -> Report:
        if window == HOUR:
            grow(data)
            raise JetstreamError("cannot reach other")
        return report(data, window)

    assert verify(monkeypatch, data, merge_and_fail).exit_code == 1
    assert texts(data) == ["first", "second"]


def test_only_what_is_old_or_lacking_is_derived_and_only_where_tables_were_wanted(data: DataDirectory) -> None:
    before = versions(data)
    assert build_stale("network", HOUR, data.lake) == []
    data.lake.table_path("network", "likes", HOUR).unlink()
    assert build_stale("network", HOUR, data.lake) == []
    build_table(next(table for table in TABLES if table.name == "likes"), "network", NEXT, data.lake)
    assert [summary.path.stem for summary in build_stale("network", HOUR, data.lake)] == ["likes"]
    assert len(set(versions(data)) - set(before)) == 1
    grow(data)
    assert len(build_stale("network", HOUR, data.lake)) == len(TABLES)
    for table in TABLES:
        data.lake.table_path("network", table.name, HOUR).unlink()
    assert build_stale("network", HOUR, data.lake) == []


def test_tables_whose_window_is_gone_stay(data: DataDirectory) -> None:
    data.lake.events_path("network", HOUR).unlink()
    assert build_stale("network", HOUR, data.lake) == []
    assert texts(data) == ["first"]


def test_strangers_names_do_not_steer_the_terminal(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"\x1b[31mred\n": 5, "x" * 500: 4, "\u202eapp.bsky": 1}
    lack = Lack(events=10, of=10, repositories=3, by_collection=names, by_repository=names)
    result = verify(monkeypatch, data, lambda window: report(data, window, lack, None))
    assert result.exit_code == 1
    assert result.stdout.replace("\n", "").isprintable()
    assert len(result.stdout.splitlines()) == 2 * 3
    assert r"\x1b[31mred\n 5" in result.stdout
    assert "x" * 79 + "… 4" in result.stdout
    assert "x" * 80 not in result.stdout
    noted = verify(monkeypatch, data, lambda window: report(data, window, note="it says \x1b[2J"))
    assert r"it says \x1b[2J" in noted.stdout


def refuse_first(data: DataDirectory) -> Answer:
    def answer(window: Window) -> Report:
        if window == HOUR:
            raise InvalidInput("the lake holds no whole window\x1b[2J\nof that hour")
        return report(data, window)

    return answer


def test_a_window_that_cannot_be_compared_does_not_keep_the_next_from_it(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = verify(monkeypatch, data, refuse_first(data))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith(f"{NEXT}  verified")
    assert result.stderr == f"{HOUR}  the lake holds no whole window\\x1b[2J of that hour\n"
    told = [json.loads(line) for line in verify(monkeypatch, data, refuse_first(data), "--json").stdout.splitlines()]
    assert told[0] == {"window": HOUR.key, "error": "the lake holds no whole window\x1b[2J of that hour"}
    assert told[1]["summary"]["state"] == "verified"


def test_where_a_table_cannot_be_derived_the_next_window_is_compared(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_first(stream: str, window: Window, lake: Lake) -> None:
        if window == HOUR:
            raise StorageError("cannot derive posts")

    monkeypatch.setattr(command, "build_stale", fail_first)
    result = verify(monkeypatch, data, lambda window: report(data, window))
    assert (result.exit_code, result.stderr) == (1, f"{HOUR}  cannot derive posts\n")
    assert result.stdout.count("verified") == 2


def test_what_holds_for_all_windows_ends_the_command_with_2(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(window: Window) -> Report:
        raise InvalidInput("name another host")

    result = verify(monkeypatch, data, refuse)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 2)
    asked: list[Any] = []
    elsewhere = verify(monkeypatch, data, asked.append, "--stream", "nothing")
    assert isinstance(elsewhere.exception, InvalidInput)
    assert "no stream nothing" in str(elsewhere.exception)
    assert not asked


def test_the_settings_say_which_host_is_asked_and_from_when(tmp_path: Path) -> None:
    cursors = []

    def script(connection: ServerConnection, number: int, cursor: int) -> None:
        cursors.append(cursor)
        EVENTS(connection, number, cursor)

    result = verify_past(DataDirectory(tmp_path), script, JETSTREAM_HOST_SKEW_SECONDS="7")
    assert result.exit_code == 0, result.output
    assert PAST.start_us - 2 * 7 * SECOND in cursors


def test_the_setting_says_how_long_ago_a_window_must_have_ended(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "datetime", SimpleNamespace(now=lambda _: HOUR.end + timedelta(minutes=10)))
    span = ("--from", HOUR.start.isoformat(), "--to", HOUR.end.isoformat())
    result = run(data, "verify", *span, "-i", "ws://127.0.0.1:1", JETSTREAM_SETTLE_MINUTES="20")
    assert result.exit_code == 2
    assert "less than 20 minutes ago" in result.stderr


def test_progress_is_told_beside_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_PROGRESS_SEC", 0)
    result = verify_past(DataDirectory(tmp_path), EVENTS)
    assert result.stdout.startswith(f"{PAST}  verified  180 events")
    assert f"{PAST}  100%  180 events\n" in result.stderr
    assert "%" not in result.stdout


def test_what_was_compared_can_be_queried(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    verify(monkeypatch, data, lambda window: report(data, window))
    with duckdb.connect(data.warehouse, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(2,)]
