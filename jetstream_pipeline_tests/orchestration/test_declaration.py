"""Every field of a declaration has its effect on the stream, and on what Dagster is given of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr, ValidationError

from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.jetstream.hosts import PUBLIC_HOSTS, Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration.build import stream_definitions
from jetstream_pipeline.orchestration.component import StreamComponent
from jetstream_pipeline.orchestration.declaration import QueueDeclaration, StreamDeclaration, WrongDeclaration
from jetstream_pipeline.settings import MAIN_COLLECTIONS, Settings
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.tables.definitions import TABLES

OF_ACCOUNTS = ["identities", "accounts"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def declare(tmp_path: Path, settings: Settings) -> Any:
    """The stream of a declaration in `tmp_path`, by what its YAML says beside the name."""
    return lambda **said: StreamDeclaration(**{"name": "mine", **said}).stream(settings, tmp_path)


def assets(stream: Stream) -> dict[str, dg.AssetSpec]:
    """By the last part of their keys, the first of which is the stream's name."""
    specs = stream_definitions(stream).resolve_all_asset_specs()
    assert {spec.key.path[0] for spec in specs} == {stream.name}
    return {spec.key.path[-1]: spec for spec in specs}


def names(stream: Stream) -> tuple[set[str], set[str], set[str]]:
    """Of jobs, schedules and sensors."""
    definitions = stream_definitions(stream)
    return (
        {job.name for job in definitions.jobs or ()},
        {schedule.name for schedule in definitions.schedules or ()},
        {sensor.name for sensor in definitions.sensors or ()},
    )


def tables(stream: Stream) -> list[str]:
    return [table.name for table in stream.tables]


def test_a_name_alone_makes_the_main_collections_of_the_settings_hosts(declare: Any, settings: Settings) -> None:
    stream: Stream = declare()
    assert (stream.name, stream.settings) == ("mine", settings)
    assert stream.subscription() == Subscription(MAIN_COLLECTIONS)
    assert stream.hosts == tuple(Host.parse(name) for name in PUBLIC_HOSTS)
    assert (stream.wire, stream.compression, stream.start) == (None, False, None)
    assert (stream.tables, stream.feeds, stream.report) == (TABLES, (), True)
    assert (stream.windows_per_run, stream.owners) == (None, ("team:jetstream",))
    assert set(assets(stream)) == {"events", "hourly_report", *(table.name for table in TABLES)}
    jobs, schedules, sensors = names(stream)
    assert jobs == {"mine_events", "mine_tables", "mine_hourly_report", "mine_verification", "mine_backfill"}
    assert schedules == {"mine_hourly"}
    assert sensors == {
        "mine_tables_for_new_windows",
        "mine_hourly_report_for_new_windows",
        "mine_catch_up",
        "mine_backfill_runs",
    }


def test_collections_are_the_filter_and_say_which_tables_there_are(declare: Any) -> None:
    stream = declare(collections=["app.bsky.graph.*", "app.bsky.feed.like"])
    assert stream.subscription().collections == ("app.bsky.graph.*", "app.bsky.feed.like")
    assert tables(stream) == ["likes", "follows", "blocks", *OF_ACCOUNTS]
    assert assets(stream)["events"].metadata["collections"] == "app.bsky.graph.*, app.bsky.feed.like"
    assert {"likes", "follows"} < set(assets(stream))
    assert "posts" not in assets(stream)


def test_no_collections_are_all_collections(declare: Any) -> None:
    stream = declare(collections=[])
    assert stream.subscription() == Subscription()
    assert tables(stream) == [table.name for table in TABLES]
    assert assets(stream)["events"].metadata["collections"] == "all"


def test_the_settings_collections_are_those_of_a_stream_that_names_none(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, collections=("app.bsky.feed.post",), hosts=("one.example",))
    stream = StreamDeclaration(name="mine").stream(settings, tmp_path)
    assert stream.subscription() == Subscription(("app.bsky.feed.post",))
    assert tables(stream) == ["posts", *OF_ACCOUNTS]
    assert stream.hosts == (Host.parse("one.example"),)


def test_dids_and_a_file_of_them_beside_the_declaration_are_the_filter(declare: Any, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "dids.txt").write_text("did:plc:b\n")
    for file in ("lists/dids.txt", str(tmp_path / "lists" / "dids.txt")):
        stream = declare(dids=["did:plc:a"], dids_file=file)
        assert stream.subscription().dids == ("did:plc:a", "did:plc:b")


def test_handles_are_kept_for_when_they_are_asked_for(declare: Any) -> None:
    assert declare(handles=["bsky.app", "@Alice.example.org"]).handles == ("bsky.app", "@Alice.example.org")


def test_hosts_are_those_of_the_stream_in_their_order(declare: Any) -> None:
    stream = declare(hosts=["two.example", "us-east"])
    assert [host.name for host in stream.hosts] == ["two.example", "jetstream.us-east.bsky.network"]
    assert assets(stream)["events"].metadata["hosts"] == "two.example, jetstream.us-east.bsky.network"


def test_wire_and_compression_are_how_hosts_are_spoken_to(declare: Any) -> None:
    stream = declare(wire="v1", compression=True)
    assert (stream.wire, stream.compression) == (Wire.V1, True)
    assert declare(wire="v2").wire is Wire.V2


@pytest.mark.parametrize("start", ["2026-07-01-05:00", "2026-07-01T05:00:00Z", "2026-07-01T07:00:00+02:00"])
def test_partitions_begin_with_the_first_hour(declare: Any, start: str) -> None:
    stream = declare(start=start, queues=[{"name": "q"}])
    first = datetime(2026, 7, 1, 5, tzinfo=UTC)
    assert stream.start == first
    for spec in assets(stream).values():
        partitions = spec.partitions_def
        assert isinstance(partitions, dg.HourlyPartitionsDefinition)
        assert partitions.get_first_partition_key() == "2026-07-01-05:00"
        assert partitions.timezone == "UTC"
    verification = stream_definitions(stream).resolve_job_def("mine_verification")
    assert verification.partitions_def
    assert verification.partitions_def.get_first_partition_key() == "2026-07-01-05:00"


def test_tables_are_those_that_are_named_whatever_the_collections(declare: Any) -> None:
    stream = declare(tables=["likes", "posts"])
    assert tables(stream) == ["posts", "likes"]
    assert set(assets(stream)) == {"events", "posts", "likes", "hourly_report"}


def test_without_tables_nothing_looks_for_them(declare: Any) -> None:
    stream = declare(tables=[])
    assert set(assets(stream)) == {"events", "hourly_report"}
    jobs, _, sensors = names(stream)
    assert "mine_tables" not in jobs
    assert "mine_tables_for_new_windows" not in sensors


def test_without_a_report_nothing_makes_one(declare: Any) -> None:
    stream = declare(report=False)
    assert "hourly_report" not in assets(stream)
    jobs, _, sensors = names(stream)
    assert "mine_hourly_report" not in jobs
    assert "mine_hourly_report_for_new_windows" not in sensors


def test_each_queue_is_fed_by_its_own_filter(declare: Any) -> None:
    said = {
        "name": "first",
        "collections": ["app.bsky.feed.*"],
        "dids": ["did:plc:a"],
        "kinds": ["commit"],
        "operations": ["create", "delete"],
    }
    stream = declare(queues=[said, {"name": "second"}])
    assert stream.feeds == (
        Feed("first", Subscription(("app.bsky.feed.*",), ("did:plc:a",), ("commit",)), ("create", "delete")),
        Feed("second"),
    )
    assert {"first", "second"} < set(assets(stream))
    assert [dep.asset_key.path for dep in assets(stream)["first"].deps] == [["mine", "events"]]
    jobs, _, sensors = names(stream)
    assert {"mine_first", "mine_second"} < jobs
    assert {"mine_first_for_new_windows", "mine_second_for_new_windows"} < sensors


def test_no_queue_has_the_name_of_another_asset_or_job(declare: Any) -> None:
    jobs, _, _ = names(declare())
    taken = {job.removeprefix("mine_") for job in jobs} | set(assets(declare()))
    assert len(taken) > len(TABLES)
    for name in taken:
        with pytest.raises(ValidationError, match="is the name of another asset or job"):
            QueueDeclaration(name=name)


def test_windows_per_run_are_how_a_backfill_is_cut(declare: Any) -> None:
    def policy(stream: Stream) -> dg.BackfillPolicy | None:
        definitions = stream_definitions(stream)
        return definitions.resolve_asset_graph().get(dg.AssetKey(["mine", "events"])).backfill_policy

    assert policy(declare(windows_per_run=24)) == dg.BackfillPolicy.multi_run(24)
    assert policy(declare()) is None


def test_owners_own_every_asset(declare: Any) -> None:
    owners = ["team:research", "me@example.org"]
    for spec in assets(declare(owners=owners, queues=[{"name": "q"}])).values():
        assert spec.owners == owners


def test_every_asset_is_grouped_and_tagged_with_its_stream(declare: Any) -> None:
    for spec in assets(declare(queues=[{"name": "q"}])).values():
        assert (spec.group_name, spec.tags["stream"]) == ("mine", "mine")


def test_whatever_asks_for_runs_or_tells_people_does_so_from_the_start(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        alert_webhook=SecretStr("http://127.0.0.1:9/told"),
        alert_recipients="one@example.org",
        alert_sender="other@example.org",
        smtp_server=SecretStr("smtp://127.0.0.1:9"),
    )
    stream = StreamDeclaration(name="mine", queues=[{"name": "q"}]).stream(settings, tmp_path)
    repository = stream_definitions(stream).get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "mine_tables_for_new_windows",
        "mine_hourly_report_for_new_windows",
        "mine_q_for_new_windows",
        "mine_catch_up",
        "mine_backfill_runs",
        "mine_alerts_by_webhook",
        "mine_alerts_by_mail",
    }
    assert {sensor.default_status for sensor in repository.sensor_defs} == {dg.DefaultSensorStatus.RUNNING}
    assert [schedule.default_status for schedule in repository.schedule_defs] == [dg.DefaultScheduleStatus.RUNNING]


def test_the_schedules_runs_go_before_others(declare: Any) -> None:
    schedule = stream_definitions(declare()).get_repository_def().get_schedule_def("mine_hourly")
    context = dg.build_schedule_context(scheduled_execution_time=datetime.now(UTC))
    (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert request.tags["dagster/priority"] == "1"


def test_the_schedule_waits_until_an_hour_has_settled(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, settle_minutes=7)
    definitions = stream_definitions(StreamDeclaration(name="mine").stream(settings, tmp_path))
    (schedule,) = definitions.schedules or ()
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING  # type: ignore[union-attr]
    resolved = definitions.get_repository_def().get_schedule_def("mine_hourly")
    assert resolved.cron_schedule == "7 * * * *"
    assert resolved.job_name == "mine_events"


def test_every_field_of_the_yaml_explains_itself_to_editors() -> None:
    schema = StreamComponent.get_model_cls().model_json_schema()
    stream, queue = schema["properties"], schema["$defs"]["QueueDeclarationModel"]["properties"]
    assert set(stream) == set(StreamDeclaration.model_fields)
    assert all(field.get("description") for field in (*stream.values(), *queue.values()))


def test_a_new_stream_begins_two_days_ago(declare: Any) -> None:
    first = declare().first_hour()
    assert timedelta(days=2) <= datetime.now(UTC) - first < timedelta(days=3, minutes=1)


@pytest.mark.parametrize(
    ("said", "field", "message"),
    [
        ({"collections": ["app.bsky.feed.like"], "tables": ["posts"]}, "tables", "posts is of app.bsky.feed.post"),
        (
            {"collections": ["app.bsky.feed.*"], "queues": [{"name": "q", "collections": ["app.bsky.graph.*"]}]},
            "queues",
            "q waits for app.bsky.graph",
        ),
    ],
)
def test_what_waits_for_events_that_the_stream_has_not_is_refused(
    said: dict[str, Any], field: str, message: str, declare: Any
) -> None:
    with pytest.raises(WrongDeclaration, match=message) as told:
        declare(**said)
    assert told.value.field == field


@pytest.mark.parametrize("wanted", ["app.bsky.graph.*", "app.bsky.graph.follow", "app.bsky.*"])
def test_a_queue_may_wait_for_a_part_of_what_the_stream_has(wanted: str, declare: Any) -> None:
    for collections in (["app.bsky.graph.*"], ["app.bsky.graph.follow"], []):
        assert declare(collections=collections, queues=[{"name": "q", "collections": [wanted]}]).feeds
