"""Every new content of a window asks its consumers for one run each, in order, whatever fails, and whatever is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.orchestration.consumers import _Look, _State
from jetstream_pipeline.orchestration.partitions import hourly
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import SUMMARY_KEY, WindowState, read_summary
from jetstream_pipeline_tests.orchestration.driving import (
    EVENTS,
    RANGE,
    RUN_KEY,
    Driver,
    declared,
    failure_of,
    partitions_of,
    plain,
    questions,
    told,
)
from jetstream_pipeline_tests.windows import HOUR, Window, commit, store

WINDOWS = [Window.hour(HOUR.start + timedelta(hours=number)) for number in range(120)]
OTHER = WINDOWS[1]
TABLES = ["accounts", "blocks", "events", "follows", "identities", "likes", "posts", "profiles", "reposts"]
JOB = "network_tables"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def dagster(data: DataDirectory, instance: dg.DagsterInstance) -> Driver:
    return Driver(declared(data, "ws://127.0.0.1:9", first=HOUR), instance)


class Consumer:
    """Looks of the tables' sensor at times of the test's choosing, in seconds, and the runs that it asked for."""

    def __init__(self, dagster: Driver) -> None:
        self.dagster = dagster
        self.instance = dagster.instance
        self.partitions = hourly(dagster.stream)
        self.cursor: str | None = None

    def look(self, now: float = 0.0) -> list[dg.RunRequest]:
        look = _Look(self.instance, JOB, _State.read(self.cursor), now)
        requests = [*look.again(), *look.new(EVENTS, self.partitions)]
        self.cursor = look.state.model_dump_json()
        return requests

    def asked(self, now: float = 0.0) -> list[str | None]:
        """The windows that a look asks for; their runs are not launched."""
        return [request.partition_key for request in self.look(now)]

    def ran(self, request: dg.RunRequest, status: str = "SUCCESS") -> None:
        """A run that was asked for, and how it stands."""
        tags = {**request.tags, "dagster/partition": request.partition_key or "", RUN_KEY: request.run_key or ""}
        self.dagster.stands(JOB, status, tags)

    def round(self, now: float = 0.0, status: str = "SUCCESS") -> list[str | None]:
        requests = self.look(now)
        for request in requests:
            self.ran(request, status)
        return [request.partition_key for request in requests]

    def rounds(self, number: int, now: float = 0.0) -> list[str | None]:
        return [partition for _ in range(number) for partition in self.round(now)]


@pytest.fixture
def consumer(dagster: Driver) -> Consumer:
    return Consumer(dagster)


def test_every_window_is_asked_for_once_and_in_order(consumer: Consumer) -> None:
    assert consumer.look() == []
    for window in WINDOWS:
        told(consumer.instance, window)
    assert consumer.rounds(6) == [window.key for window in WINDOWS]


def test_no_more_are_asked_for_than_are_consumed(consumer: Consumer) -> None:
    for window in WINDOWS:
        told(consumer.instance, window)
    requests = consumer.look()
    assert [request.partition_key for request in requests] == [window.key for window in WINDOWS[:50]]
    assert consumer.look() == []
    for request in requests[10:]:
        consumer.ran(request, "STARTED")
    for request in requests[:10]:
        consumer.ran(request)
    assert consumer.asked(1e6) == [window.key for window in WINDOWS[50:60]]


def test_the_same_content_again_is_not_consumed_again(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    assert consumer.round() == [HOUR.key]
    told(consumer.instance, HOUR, "a")
    assert consumer.rounds(3) == []


def test_the_same_content_again_while_its_run_goes_on_is_not_asked_for(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    assert consumer.round(status="STARTED") == [HOUR.key]
    told(consumer.instance, HOUR, "a")
    assert consumer.rounds(3) == []


def test_each_other_content_is_consumed(consumer: Consumer) -> None:
    asked = []
    for content in ("a", "b", "a"):
        told(consumer.instance, HOUR, content)
        asked.append(consumer.look())
        for request in asked[-1]:
            consumer.ran(request)
    assert [len(requests) for requests in asked] == [1, 1, 1]
    assert len({requests[0].run_key for requests in asked}) == 3


def test_other_content_is_asked_for_also_while_the_run_of_the_first_goes_on(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    assert consumer.round(status="STARTED") == [HOUR.key]
    told(consumer.instance, HOUR, "b")
    assert consumer.round() == [HOUR.key]
    assert consumer.rounds(3, now=1e6) == []


def test_of_contents_that_land_between_two_looks_the_last_one_is_consumed(consumer: Consumer) -> None:
    for content in ("a", "b", "c"):
        told(consumer.instance, HOUR, content)
    told(consumer.instance, OTHER, "d")
    requests = consumer.look()
    assert [(request.partition_key, request.tags["jetstream/content"]) for request in requests] == [
        (HOUR.key, "c"),
        (OTHER.key, "d"),
    ]


def test_content_that_is_not_known_is_always_consumed(consumer: Consumer) -> None:
    for _ in range(3):
        told(consumer.instance, HOUR, "")
        assert consumer.round() == [HOUR.key]
    assert consumer.round() == []


def test_content_that_is_not_known_is_asked_for_also_while_a_run_goes_on(consumer: Consumer) -> None:
    for _ in range(2):
        told(consumer.instance, HOUR, "")
        assert consumer.round(status="STARTED") == [HOUR.key]


def test_a_version_that_dagster_made_up_is_no_content(data: DataDirectory, dagster: Driver) -> None:
    """It makes one up for a window whose file does not know its content: for those from before contents were kept."""
    store(data, [commit("{}")])
    path = data.lake.events_path("network", HOUR)
    update = {
        "content": "",
        "fingerprint": dagster.stream.subscription().fingerprint,
        "state": WindowState.VERIFIED,
    }
    old = read_summary(path).model_copy(update=update).model_dump_json().encode()
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata({SUMMARY_KEY: old}), path)
    data.lake.stream_path("network").unlink(missing_ok=True)
    consumer = Consumer(dagster)
    for _ in range(2):
        assert dagster.replay(HOUR).success
        assert consumer.round() == [HOUR.key]


def test_a_run_that_failed_is_asked_for_again_after_pauses_that_grow_to_a_day(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    now, keys = 0.0, set()
    for pause in (*(60 * 2**number for number in range(11)), *[24 * 3600] * 3):
        (request,) = consumer.look(now)
        keys.add(request.run_key)
        consumer.ran(request, "FAILURE")
        for share in (0.0, 0.5, 0.9):
            assert consumer.look(now + pause * share) == []
        assert consumer.look(now + pause - 1) == []
        now += pause
    assert len(keys) == 14


def test_windows_that_fail_for_ever_leave_room_for_all_others(consumer: Consumer) -> None:
    for window in WINDOWS[:60]:
        told(consumer.instance, window, "a")
    for now in (0, 60, 120, 180):
        consumer.round(now, "FAILURE")
    told(consumer.instance, WINDOWS[60], "a")
    assert WINDOWS[60].key in consumer.round(190)


@pytest.mark.parametrize("status", ["CANCELED", "FAILURE"])
def test_what_ended_without_success_is_asked_for_again(consumer: Consumer, status: str) -> None:
    told(consumer.instance, HOUR, "a")
    assert consumer.round(0, status) == [HOUR.key]
    assert consumer.round(59) == []
    assert consumer.round(60) == [HOUR.key]
    assert consumer.rounds(3, 1e6) == []


def test_a_request_of_which_nothing_came_is_made_again(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    (lost,) = consumer.look()
    (request,) = consumer.look(60)
    assert request.partition_key == HOUR.key
    assert request.run_key != lost.run_key


def test_what_failed_and_succeeded_when_dagster_retried_it_is_not_asked_for_again(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    (request,) = consumer.look()
    consumer.ran(request, "FAILURE")
    consumer.ran(request)
    assert consumer.rounds(3, 1e6) == []


@pytest.mark.parametrize("status", ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_what_has_not_ended_is_waited_for(consumer: Consumer, status: str) -> None:
    told(consumer.instance, HOUR, "a")
    assert consumer.round(0, status) == [HOUR.key]
    assert consumer.rounds(3, 1e9) == []


def test_a_window_that_fails_for_ever_holds_up_no_other(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    assert consumer.round(0, "FAILURE") == [HOUR.key]
    asked: list[str | None] = []
    for number, window in enumerate(WINDOWS[1:]):
        told(consumer.instance, window, "a")
        for request in consumer.look(number * 10):
            asked.append(request.partition_key)
            consumer.ran(request, "FAILURE" if request.partition_key == HOUR.key else "SUCCESS")
    others = [partition for partition in asked if partition != HOUR.key]
    assert others == [window.key for window in WINDOWS[1:]]
    assert 1 < len(asked) - len(others) < 8


def test_a_consumer_that_fails_holds_up_no_other_consumer(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    dagster = Driver(declared(data, first=HOUR), instance)
    store(data, [commit('{"text":"a"}')])
    told(instance, HOUR, "a")
    in_the_way = data.root / "reports"
    in_the_way.write_text("")
    assert dagster.consume("hourly_report") == {HOUR.key: False}
    assert dagster.consume("tables") == {HOUR.key: True}
    assert dagster.consume("tables") == {}


def test_what_another_consumer_did_says_nothing(consumer: Consumer) -> None:
    told(consumer.instance, HOUR, "a")
    tags = {"dagster/partition": HOUR.key, "jetstream/content": "a"}
    consumer.dagster.stands("network_hourly_report", "SUCCESS", tags)
    (request,) = consumer.look()
    # Its requests have the same keys.
    consumer.dagster.stands("network_hourly_report", "SUCCESS", {**tags, RUN_KEY: request.run_key or ""})
    assert consumer.asked(59) == []
    assert consumer.asked(60) == [HOUR.key]


def test_the_state_is_kept_from_look_to_look_and_nothing_is_asked_for_twice(consumer: Consumer) -> None:
    for window in WINDOWS[:3]:
        told(consumer.instance, window)
    assert len(consumer.look()) == 3
    restarted = Consumer(consumer.dagster)
    restarted.cursor = consumer.cursor
    assert restarted.look() == []


def test_a_cursor_that_is_lost_repeats_nothing_that_was_consumed(dagster: Driver) -> None:
    for window in WINDOWS[:3]:
        told(dagster.instance, window, "a")
    consumer = Consumer(dagster)
    assert len(consumer.round()) == 3
    told(dagster.instance, WINDOWS[3], "a")
    lost = Consumer(dagster)
    assert lost.round() == [WINDOWS[3].key]
    assert lost.rounds(3, 1e6) == []


def test_a_cursor_that_is_lost_asks_again_for_what_failed(dagster: Driver) -> None:
    told(dagster.instance, HOUR, "a")
    assert Consumer(dagster).round(0, "FAILURE") == [HOUR.key]
    lost = Consumer(dagster)
    (repeated,) = lost.look(1000)
    # Dagster drops it: the key is that of the first attempt. The next one follows by itself.
    assert len(dagster.instance.get_runs(dg.RunsFilter(tags={RUN_KEY: repeated.run_key or ""}))) == 1
    assert lost.round(1060) == [HOUR.key]
    assert lost.rounds(3, 1e6) == []


def test_a_window_that_the_partitions_do_not_reach_holds_up_no_other(consumer: Consumer) -> None:
    told(consumer.instance, Window.hour(HOUR.start - timedelta(days=1000)))
    told(consumer.instance, HOUR)
    assert consumer.round() == [HOUR.key]
    assert consumer.look() == []


def test_a_materialization_of_no_partition_is_passed_over(consumer: Consumer) -> None:
    consumer.instance.report_runless_asset_event(dg.AssetMaterialization(EVENTS))
    told(consumer.instance, HOUR)
    assert consumer.round() == [HOUR.key]
    assert consumer.look() == []


def test_a_look_at_nothing_new_costs_one_question(consumer: Consumer) -> None:
    for window in WINDOWS:
        told(consumer.instance, window)
    assert len(consumer.rounds(6)) == 120
    consumer.look()
    with questions() as asked:
        assert consumer.look() == []
    assert len(asked) == 1


def test_the_sensor_says_that_there_is_nothing_new(dagster: Driver) -> None:
    sensor = dagster.definitions.resolve_sensor_def("network_tables_for_new_windows")
    with dg.build_sensor_context(instance=dagster.instance, definitions=dagster.definitions) as context:
        assert sensor.evaluate_tick(context).skip_message == "no new window"
    told(dagster.instance, HOUR)
    (request,) = dagster.look(sensor.name)
    assert request.partition_key == HOUR.key
    assert dagster.look(sensor.name) == [], "the cursor is kept"
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_the_sensor_names_the_windows_that_failed_and_wait(consumer: Consumer) -> None:
    now = time.time()
    for window in WINDOWS[:2]:
        told(consumer.instance, window, "a")
    for request in consumer.look(now - 100):
        consumer.ran(request, "SUCCESS" if request.partition_key == OTHER.key else "FAILURE")
    assert consumer.round(now - 40, "FAILURE") == [HOUR.key]
    definitions = consumer.dagster.definitions
    sensor = definitions.resolve_sensor_def("network_tables_for_new_windows")
    with dg.build_sensor_context(consumer.instance, cursor=consumer.cursor, definitions=definitions) as context:
        assert sensor.evaluate_tick(context).skip_message == f"no new window; 1 failed and wait: {HOUR.key}"


def test_each_window_of_a_backfill_has_a_run_of_its_own(dagster: Driver) -> None:
    for name in ("posts", "hourly_report"):
        assert dagster.definitions.resolve_assets_def(dg.AssetKey(["network", name])).backfill_policy is None


def test_what_is_asked_for_builds_every_table_of_the_window(data: DataDirectory, dagster: Driver) -> None:
    store(data, [commit('{"text":"a"}'), commit('{"text":"b"}', number=1)])
    told(dagster.instance, HOUR)
    assert dagster.consume("tables") == {HOUR.key: True}
    (posts,) = dagster.materializations("posts")
    metadata = plain(posts.metadata)
    path = data.lake.table_path("network", "posts", HOUR)
    seconds = metadata.pop("seconds")
    assert 0 <= seconds < 60
    assert metadata == {
        "dagster/partition_row_count": 2,
        "bytes": path.stat().st_size,
        "path": str(path),
    }
    assert pq.read_metadata(path).num_rows == 2
    assert sorted(data.lake.datasets("network")) == TABLES
    assert data.warehouse.exists()


def test_a_run_over_a_range_tells_each_window(data: DataDirectory, dagster: Driver) -> None:
    windows = WINDOWS[:3]
    for number, window in enumerate(windows):
        store(data, [commit("{}", number=at) for at in range(number + 1)], window)
    tags = dict(zip(RANGE, (windows[0].key, windows[-1].key), strict=True))
    result = dagster.definitions.resolve_job_def(JOB).execute_in_process(tags=tags, instance=dagster.instance)
    assert result.success
    posts = dagster.materializations("posts")
    assert partitions_of(posts) == [window.key for window in windows]
    assert [plain(one.metadata)["dagster/partition_row_count"] for one in posts] == [1, 2, 3]


def test_a_consumer_without_its_window_fails_with_what_to_do_and_is_not_tried_again_at_once(dagster: Driver) -> None:
    told(dagster.instance, HOUR)
    (request,) = dagster.look("network_hourly_report_for_new_windows")
    result = dagster.run("network_hourly_report", request)
    assert "replay it first" in failure_of(result)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
