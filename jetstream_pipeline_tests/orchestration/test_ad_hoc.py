"""Replays from the launchpad: the configuration as it stands works, each field does what it says, and what is wrong is
one line."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.connector.statistics import Progress
from jetstream_pipeline.orchestration import ad_hoc as module
from jetstream_pipeline.orchestration.ad_hoc import AdHocConfig, ad_hoc_job
from jetstream_pipeline.replay.reading import Progress as WindowProgress
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.ad_hoc import AdHoc
from jetstream_pipeline.window import Window, parse_time, to_us
from jetstream_pipeline_tests.connector.events import identity, simulated, stored

NETWORK = Network(seed=3, rate=3)
POST, LIKE = "app.bsky.feed.post", "app.bsky.feed.like"
PAST = Window.hour(datetime.now(UTC) - timedelta(hours=3))
FIELDS = set(AdHocConfig.model_fields)


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    with running(Simulator(NETWORK)) as simulator:
        yield simulator


@pytest.fixture
def settings(data: DataDirectory, host: Simulator, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("JETSTREAM_DATA_DIR", str(data.root))
    monkeypatch.setenv("JETSTREAM_HOSTS", host.address)
    return Settings.read()


def launch(settings: Settings, **config: Any) -> dg.ExecuteInProcessResult:
    """The job as the launchpad runs it: fields that are not named keep their defaults."""
    run_config = {"ops": {"replay": {"config": config}}} if config else None
    return ad_hoc_job(settings).execute_in_process(run_config=run_config, raise_on_error=False)


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What a run says that failed once and for all."""
    assert not result.success
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    said = failed.step_failure_data.user_failure_data
    assert said
    return said.description or ""


def events(start: datetime, end: datetime, *collections: str) -> list[SimulatedEvent]:
    every = NETWORK.events(to_us(start), to_us(end))
    return [event for event in every if not collections or event.collection in (None, *collections)]


def queued(settings: Settings, queue: str = "ad_hoc_replay") -> list[Any]:
    return [identity(record) for record in stored(Queue(queue, data_dir=settings.data_dir))]


def span(minutes: int = 2) -> dict[str, str]:
    """An interval that has passed, as one types it."""
    return {"start": PAST.key, "end": (PAST.start + timedelta(minutes=minutes)).isoformat()}


def test_as_it_stands_it_fills_a_queue_with_the_posts_of_the_last_ten_minutes(settings: Settings) -> None:
    before = datetime.now(UTC)
    result = launch(settings)
    after = datetime.now(UTC)
    assert result.success
    found = queued(settings)
    ten, one = timedelta(minutes=10), timedelta(minutes=1)
    everything = simulated(events(before - one - ten, after - one, POST))
    surely = simulated(events(after - one - ten, before - one, POST))
    assert surely
    first = everything.index(found[0])
    assert found == everything[first : first + len(found)]
    assert set(surely) <= set(found)
    assert not DataDirectory(settings.data_dir).lake.root.exists()


def test_an_interval_of_the_past_gives_exactly_its_events_and_says_so(settings: Settings, host: Simulator) -> None:
    result = launch(settings, **span())
    expected = simulated(events(PAST.start, PAST.start + timedelta(minutes=2), POST))
    assert queued(settings) == expected
    (output,) = [event for event in result.all_events if event.is_successful_output]
    metadata = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert metadata["records_stored"] == metadata["queue_length"] == len(expected)
    assert metadata["end_cursor_reached"] is True
    assert str(metadata["queue"]) == str(settings.data_dir / "queues" / "ad_hoc_replay.duckdb")
    assert settings.data_dir.joinpath("queues", "ad_hoc_replay.duckdb").exists()


@pytest.mark.parametrize(("name", "queue"), [("mine", "ad_hoc_mine"), ("ad_hoc_mine", "ad_hoc_mine")])
def test_the_name_always_says_where_it_came_from(settings: Settings, name: str, queue: str) -> None:
    assert launch(settings, **span(1), name=name).success
    assert [path.stem for path in (settings.data_dir / "queues").glob("*.duckdb")] == [queue]


def test_into_a_stream_gives_whole_hours_and_keeps_out_of_the_scheduled_ones(settings: Settings) -> None:
    first = Window.hour(PAST.start - timedelta(hours=1))
    result = launch(settings, start=first.key, end=PAST.end.isoformat(), into="stream", collections=[LIKE])
    assert result.success
    lake = DataDirectory(settings.data_dir).lake
    assert lake.streams() == ["ad_hoc_replay"]
    assert lake.whole("ad_hoc_replay") == {first, PAST}
    (output,) = [event for event in result.all_events if event.is_successful_output]
    metadata = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert metadata == {
        "stream": "ad_hoc_replay",
        "windows": 2,
        "events": len(events(first.start, PAST.end, LIKE)),
    }
    assert not (settings.data_dir / "queues").exists()


def test_into_a_stream_without_times_gives_the_last_settled_hour(settings: Settings) -> None:
    before = datetime.now(UTC)
    assert launch(settings, into="stream").success
    after = datetime.now(UTC)
    (window,) = DataDirectory(settings.data_dir).lake.whole("ad_hoc_replay")
    assert before - timedelta(hours=1) < window.end + settings.settle <= after


def test_it_waits_in_the_pool_of_the_first_host(data: DataDirectory) -> None:
    settings = Settings(data_dir=data.root, hosts=("jetstream1.us-east.bsky.network", "us-west"))
    assert ad_hoc_job(settings).get_node_named("replay").definition.pools == {
        "jetstream_jetstream1_us_east_bsky_network"
    }


def test_an_incomplete_hour_fails_the_run_and_the_others_are_there(data: DataDirectory) -> None:
    lookback = datetime.now(UTC) - PAST.start + timedelta(minutes=30)
    first = Window.hour(PAST.start - timedelta(hours=1))
    with running(Simulator(NETWORK, lookback=lookback)) as short:
        settings = Settings(data_dir=data.root, hosts=(short.address,))
        result = launch(settings, start=first.key, end=PAST.end.isoformat(), into="stream")
    assert failure_of(result).startswith(f"{first} is truncated: ")
    assert data.lake.whole("ad_hoc_replay") == {PAST}


@pytest.mark.parametrize("v2", [False, True])
def test_what_hosts_no_longer_have_fails_the_run_and_what_came_stays(data: DataDirectory, v2: bool) -> None:
    end = PAST.start + timedelta(minutes=20)
    lookback = datetime.now(UTC) - PAST.start - timedelta(minutes=10)
    with running(Simulator(NETWORK, lookback=lookback, v2=v2)) as short:
        settings = Settings(data_dir=data.root, hosts=(short.address,))
        said = failure_of(launch(settings, start=PAST.key, end=end.isoformat()))
    assert said.startswith(f"only a part of {PAST.start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC is in ad_hoc")
    assert (
        f"{short.address.removeprefix('ws://')}'s history begins at {PAST.start + timedelta(minutes=10):%F %H}" in said
    )
    assert "\n" not in said
    found = queued(settings)
    assert found
    everything = simulated(events(PAST.start, end, POST))
    assert found == everything[-len(found) :]


@pytest.mark.parametrize("v2", [False, True])
def test_what_is_long_gone_fails_the_run_and_says_from_where_on_there_is_something(
    data: DataDirectory, v2: bool
) -> None:
    with running(Simulator(NETWORK, lookback=timedelta(hours=1), v2=v2)) as short:
        settings = Settings(data_dir=data.root, hosts=(short.address,))
        before = datetime.now(UTC)
        said = failure_of(launch(settings, end="2020-01-01"))
    assert said.startswith("nothing of 2019-12-31 23:50:00 to 2020-01-01 00:00:00 UTC is in ad_hoc_replay: ")
    assert f"'s history begins at {before - timedelta(hours=1):%Y}-" in said
    assert queued(settings) == []


def test_not_reaching_the_end_fails_the_run_and_says_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdHoc, "into_queue", _half(AdHoc.into_queue))
    said = failure_of(launch(settings, **span()))
    assert said.startswith(f"only a part of {PAST.start:%Y-%m-%d %H:%M:%S} to ")
    assert "raise max_minutes" in said
    assert "another name" in said


def _half(into_queue: Any) -> Any:
    """As if the time had run out."""
    return lambda *given: into_queue(*given).model_copy(update={"end_cursor_reached": False})


def test_time_that_runs_out_is_the_time_that_was_given(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = []

    def into_queue(wanted: AdHoc, given: float, _: Any) -> Any:
        seconds.append(given)
        raise module.PipelineError("this is a test")

    monkeypatch.setattr(AdHoc, "into_queue", into_queue)
    launch(settings)
    launch(settings, max_minutes=0.5)
    launch(settings, max_minutes=0)
    assert seconds == [3600, 30, 0]


@pytest.mark.parametrize("into", ["queue", "stream"])
def test_how_a_connection_ended_is_logged_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, into: str
) -> None:
    def into_queue(wanted: AdHoc, _: float, on_progress: Any) -> Any:
        on_progress(Progress(0, 0, 1, 1.0, 0, "the host went away"))
        raise module.PipelineError("this is a test")

    def into_stream(wanted: AdHoc, progress_of: Any) -> Any:
        progress_of(PAST)(WindowProgress(0, 0, 1.0, "the host went away"))
        raise module.PipelineError("this is a test")

    monkeypatch.setattr(AdHoc, "into_queue", into_queue)
    monkeypatch.setattr(AdHoc, "into_stream", into_stream)
    with dg.DagsterInstance.ephemeral() as instance:
        run_config = {"ops": {"replay": {"config": {"into": into}}}}
        result = ad_hoc_job(settings).execute_in_process(run_config, instance=instance, raise_on_error=False)
        warnings = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == logging.WARNING]
    assert failure_of(result) == "this is a test"
    assert warnings == ["the host went away" if into == "queue" else f"{PAST}: the host went away"]


def test_an_hour_has_settled_when_the_setting_says_so(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hours(start: str, end: str, now: datetime, settle: timedelta) -> Any:
        asked.append((start, end, settle))
        raise module.PipelineError("this is a test")

    monkeypatch.setattr(module, "settled_hours", hours)
    settings = Settings(data_dir=data.root, settle_minutes=50)
    assert failure_of(launch(settings, into="stream", end="2026-01-31")) == "this is a test"
    assert asked == [("", "2026-01-31", timedelta(minutes=50))]


def test_what_is_asked_for_is_what_is_configured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def into_queue(wanted: AdHoc, *_: Any) -> Any:
        asked.append(wanted)
        raise module.PipelineError("this is a test")

    monkeypatch.setattr(AdHoc, "into_queue", into_queue)
    config = {
        "start": "2026-01-31",
        "end": "2026-01-31-14:00:01",
        "collections": ["app.bsky.graph.*"],
        "dids": ["did:plc:a"],
        "handles": ["alice.example.org"],
        "hosts": ["us-east"],
        "name": "mine",
    }
    assert set(config) == FIELDS - {"into", "max_minutes"}
    assert failure_of(launch(settings, **config)) == "this is a test"
    assert asked == [
        AdHoc(
            name="mine",
            start=parse_time("2026-01-31"),
            end=parse_time("2026-01-31-14:00:01"),
            settings=settings,
            collections=("app.bsky.graph.*",),
            dids=("did:plc:a",),
            handles=("alice.example.org",),
            hosts=("us-east",),
        )
    ]


def test_every_field_explains_itself_and_has_a_default(settings: Settings) -> None:
    assert all(field.description and not field.is_required() for field in AdHocConfig.model_fields.values())
    job = ad_hoc_job(settings)
    schema = job.get_node_named("replay").definition.config_schema.config_type
    assert {name: bool(field.description) for name, field in schema.fields.items()} == dict.fromkeys(FIELDS, True)
    assert not any(field.is_required for field in schema.fields.values())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"start": "soon"}, "'soon' is not a time"),
        ({"end": "2199-01-01"}, "has not come yet"),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "is not after the start"),
        ({"collections": ["posts"]}, "'posts' is not a collection"),
        ({"dids": ["alice"]}, "'alice' is not a DID"),
        ({"handles": ["no handle"]}, "'no handle' is not a handle"),
        ({"hosts": ["http://a"]}, "'http://a' is not a host"),
        ({"hosts": ["ws://127.0.0.1:1"]}, "cannot reach 127.0.0.1:1"),
        ({"name": "../x"}, "'ad_hoc_../x' cannot name a queue or stream"),
        ({"name": ""}, "'' cannot name a queue or stream"),
        ({"max_minutes": -1.0}, "max_minutes=-1.0: write minutes"),
        ({"max_minutes": float("nan")}, "max_minutes=nan"),
        ({"into": "stream", **span()}, "not on the hour"),
        ({"into": "stream", "hosts": ["http://a"]}, "'http://a' is not a host"),
    ],
)
def test_a_bad_value_is_one_line_and_not_tried_again(settings: Settings, config: dict[str, Any], words: str) -> None:
    said = failure_of(launch(settings, **config))
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize("config", [{"into": "lake"}, {"into": "QUEUE"}, {"collection": [POST]}, {"dids": "did:plc:a"}])
def test_what_is_no_configuration_is_not_launched(settings: Settings, config: dict[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        launch(settings, **config)


def test_a_run_that_was_killed_is_not_launched_again_by_itself(settings: Settings) -> None:
    """Its events would enter the queue a second time."""
    assert ad_hoc_job(settings).tags["dagster/max_retries"] == "0"
