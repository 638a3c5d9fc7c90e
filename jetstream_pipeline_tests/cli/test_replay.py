"""What the command `replay` makes of its options and of the environment. The replay itself is tested beside its use
case."""

import json
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from click.testing import Result

from jetstream_pipeline.cli import windows
from jetstream_pipeline.cli.windows import declared_here
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.replay import replay as replaying
from jetstream_pipeline.replay.replay import NotSettled
from jetstream_pipeline.replay.streams import subscription_of
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.cli.commands import declare, run
from jetstream_pipeline_tests.hostile import identity, sending, serving

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
NEXT = Window.hour(WINDOW.end)
SECOND = 1_000_000
DEAD = "ws://127.0.0.1:1"
TIMES = range(WINDOW.start_us - 200 * SECOND, NEXT.end_us + 200 * SECOND, 20 * SECOND)
EVENTS = sending([identity(time_us, time_us) for time_us in TIMES])


def replay(data: DataDirectory, *options: str, end: datetime = WINDOW.end, **environment: str) -> Result:
    span = ("--start", WINDOW.start.isoformat(), "--end", end.isoformat())
    return run(data, "replay", *span, "--no-tables", *options, **environment)


def test_the_setting_says_how_long_before_its_start_a_window_is_read(data: DataDirectory) -> None:
    with serving(EVENTS) as host:
        result = replay(data, "--json", JETSTREAM_HOSTS=f"ws://{host.name}", JETSTREAM_HOST_SKEW_SECONDS="7")
    assert json.loads(result.stdout)["proof"]["cursor"] == WINDOW.start_us - 2 * 7 * SECOND


def test_the_setting_says_how_long_ago_a_window_must_have_ended(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "datetime", SimpleNamespace(now=lambda _: WINDOW.end + timedelta(minutes=10)))
    result = replay(data, "-i", DEAD, JETSTREAM_SETTLE_MINUTES="20")
    assert isinstance(result.exception, NotSettled)
    assert "less than 20 minutes ago" in str(result.exception)


def test_every_hour_up_to_the_end_is_replayed_from_the_first_host_that_serves(data: DataDirectory) -> None:
    with serving(EVENTS) as host:
        result = replay(data, "--json", "-i", DEAD, "-i", f"ws://{host.name}", end=NEXT.end)
    assert result.exit_code == 0, result.output
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(summary["state"], summary["host"]) for summary in told] == [("complete", host.name)] * 2
    assert [datetime.fromisoformat(summary["start"]) for summary in told] == [WINDOW.start, NEXT.start]


def test_a_window_that_is_not_whole_is_told_with_its_reason(data: DataDirectory) -> None:
    lookback = datetime.now(UTC) - WINDOW.start - timedelta(minutes=20)
    with running(Simulator(Network(rate=1), lookback=lookback)) as simulator:
        result = replay(data, "-i", simulator.address)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{WINDOW}  truncated  ")
    reason = read_summary(data.lake.incomplete_path("network", WINDOW)).reason
    assert result.stdout.endswith(f"  ({reason})\n")


def test_progress_is_told_beside_the_answer(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_PROGRESS_SEC", 0)
    with serving(EVENTS) as host:
        result = replay(data, "-i", DEAD, "-i", f"ws://{host.name}")
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{WINDOW}  complete  180 events")
    assert f"{WINDOW}    0%  0 events  (cannot reach 127.0.0.1:1" in result.stderr
    assert f"{WINDOW}  100%  180 events\n" in result.stderr


def test_a_stream_has_the_filter_that_it_is_declared_with_or_has(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=data.root)
    follows, likes = ("app.bsky.graph.follow",), ("app.bsky.feed.like",)
    declare(monkeypatch, Stream("graph", settings, (), collections=follows))
    with serving(EVENTS) as host:
        address = ("-i", f"ws://{host.name}")
        for stream, options in (("graph", ()), ("liked", ("-c", *likes)), ("liked", ()), ("network", ())):
            assert replay(data, *address, "--stream", stream, *options).exit_code == 0
        assert replay(data, *address, "--stream", "other", JETSTREAM_COLLECTIONS=follows[0]).exit_code == 0
    filters = {stream: subscription_of(data, stream) for stream in data.lake.streams()}
    assert filters.pop("graph") == declared_here(settings)[0].subscription()
    assert {stream: one.collections for stream, one in filters.items()} == {
        "liked": likes,
        "network": settings.collections,
        "other": follows,
    }


def test_only_missing_hours_are_replayed_where_that_is_asked(data: DataDirectory) -> None:
    with serving(EVENTS) as host:
        address = ("-i", f"ws://{host.name}")
        assert replay(data, *address).exit_code == 0
        result = replay(data, *address, "--only-missing", end=NEXT.end)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{NEXT}  complete")
    assert result.stdout.count("\n") == 1
    assert "1 of 2 hours are whole already" in result.stderr
    result = replay(data, "-i", DEAD, "--only-missing", end=NEXT.end)
    assert (result.exit_code, result.stdout) == (0, "")
    other = replay(data, "-i", DEAD, "--only-missing", "-c", "app.bsky.feed.like", end=NEXT.end)
    assert isinstance(other.exception, InvalidInput)


def test_tables_are_those_that_the_stream_has_events_for(data: DataDirectory) -> None:
    span = ("--start", WINDOW.start.isoformat(), "--end", WINDOW.end.isoformat())
    with serving(EVENTS) as host:
        run(data, "replay", *span, "-i", f"ws://{host.name}", "-c", "app.bsky.feed.post")
    folders = {path.name for path in (data.root / "lake" / "network").iterdir() if path.is_dir()}
    assert folders & {table.name for table in TABLES} == {"posts", "identities", "accounts"}


def test_tables_that_a_run_did_not_come_to_are_derived_with_what_is_missing(data: DataDirectory) -> None:
    span = ("--start", WINDOW.start.isoformat(), "--end", WINDOW.end.isoformat())
    with serving(EVENTS) as host:
        assert replay(data, "-i", f"ws://{host.name}").exit_code == 0
    identities = data.lake.table_path("network", "identities", WINDOW)
    assert run(data, "replay", *span, "-i", DEAD, "--only-missing", "--no-tables").exit_code == 0
    assert not identities.exists()
    assert run(data, "replay", *span, "-i", DEAD, "--only-missing").exit_code == 0
    assert identities.exists()


def test_what_is_to_be_replaced_is_not_left_out(data: DataDirectory) -> None:
    refused = replay(data, "-i", DEAD, "--only-missing", "--replace-history")
    assert isinstance(refused.exception, InvalidInput)


def test_who_interrupts_is_told_how_to_go_on(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("jetstream_pipeline.cli.replay"), "replay_window", interrupted)
    result = replay(data, "-i", DEAD)
    assert result.exit_code == 1
    assert f"interrupted in {WINDOW}" in result.stderr
    assert "--only-missing" in result.stderr
