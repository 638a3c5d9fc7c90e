"""A backfill's launcher chooses how many windows a run takes; each of the runs is asked for once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration.backfills import BackfillConfig, planned_spans
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window, hours
from jetstream_pipeline_tests.orchestration.driving import RANGE, Driver, declared, hours_ago, plain
from jetstream_pipeline_tests.windows import store

NOW = datetime.now(UTC)
HOURS = [hours_ago(number) for number in range(12, 2, -1)]
FIRST = HOURS[0]


def planned(data: DataDirectory, **config: Any) -> list[tuple[str, str]]:
    spans = planned_spans(declared(data, first=FIRST), BackfillConfig(**config), NOW)
    return [(span.start.isoformat(), span.end.isoformat()) for span in spans]


def as_it_stands(stream: Stream, now: datetime) -> list[Window]:
    """What is planned where the launcher chooses nothing."""
    nothing: dict[str, Any] = {}
    return planned_spans(stream, BackfillConfig(**nothing), now)


def told(*spans: tuple[Window, Window]) -> list[tuple[str, str]]:
    return [(first.start.isoformat(), last.end.isoformat()) for first, last in spans]


def test_the_windows_are_shared_out_to_runs_of_the_size_that_is_wanted(data: DataDirectory) -> None:
    chosen = {"first": HOURS[0].key, "last": HOURS[6].key}
    assert planned(data, **chosen, windows_per_run=1) == told(*((window, window) for window in HOURS[:7]))
    assert planned(data, **chosen, windows_per_run=3) == told(
        (HOURS[0], HOURS[2]), (HOURS[3], HOURS[5]), (HOURS[6], HOURS[6])
    )
    assert planned(data, **chosen) == told((HOURS[0], HOURS[6]))


def test_windows_that_are_whole_are_left_out_unless_they_are_wanted(data: DataDirectory) -> None:
    for window in (HOURS[1], HOURS[2], HOURS[4]):
        store(data, [], window)
    chosen = {"first": HOURS[0].key, "last": HOURS[6].key}
    assert planned(data, **chosen) == told((HOURS[0], HOURS[0]), (HOURS[3], HOURS[3]), (HOURS[5], HOURS[6]))
    assert planned(data, **chosen, only_missing=False) == told((HOURS[0], HOURS[6]))


def test_as_it_stands_it_is_everything_that_has_settled(data: DataDirectory) -> None:
    ((start, end),) = planned(data)
    assert start == FIRST.start.isoformat()
    settled = Window.hour(NOW - timedelta(minutes=5)).start
    assert end == settled.isoformat()


def test_as_it_stands_it_begins_with_what_hosts_may_still_have(data: DataDirectory) -> None:
    (span,) = as_it_stands(declared(data, look_back_hours=10), NOW)
    assert span.start == Window.hour(NOW - timedelta(hours=10)).end


def test_as_it_stands_a_run_takes_a_day(data: DataDirectory) -> None:
    now = datetime(2026, 7, 2, 16, 30, tzinfo=UTC)
    stream = declared(data, first=Window.from_key("2026-07-01-10:00"))
    assert [len(list(hours(span.start, span.end))) for span in as_it_stands(stream, now)] == [24, 6]


@pytest.mark.parametrize(("minute", "end"), [(49, 11), (50, 12)])
def test_an_hour_is_planned_as_soon_as_it_has_settled(minute: int, end: int, data: DataDirectory) -> None:
    stream = declared(data, first=Window.from_key("2026-07-01-05:00"), settle_minutes=50)
    (span,) = as_it_stands(stream, datetime(2026, 7, 1, 12, minute, tzinfo=UTC))
    assert span.end == datetime(2026, 7, 1, end, tzinfo=UTC)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"first": "soon"}, "not a time"),
        ({"first": hours_ago(40).key}, "no settled hour of network, which begins at"),
        ({"last": hours_ago(0).key}, "no settled hour"),
        ({"first": HOURS[4].key, "last": HOURS[2].key}, "is not after"),
        ({"first": f"{HOURS[0].start:%Y-%m-%d-%H}:30"}, "not on the hour"),
    ],
)
def test_hours_that_there_are_not_are_refused(config: dict[str, str], message: str, data: DataDirectory) -> None:
    with pytest.raises(InvalidInput, match=message):
        planned(data, **config)


def launch(driver: Driver, **config: Any) -> tuple[dg.ExecuteInProcessResult, list[dg.RunRequest]]:
    """A run of the job, and the runs that the sensor asks for when it has succeeded."""
    job = driver.definitions.resolve_job_def("network_backfill")
    result = job.execute_in_process(
        run_config={"ops": {"network_plan": {"config": config}}}, instance=driver.instance, raise_on_error=False
    )
    assert result.success
    sensor: Any = driver.definitions.resolve_sensor_def("network_backfill_runs")
    run: Any = driver.instance.get_run_by_id(result.run_id)
    event = next(event for event in result.all_events if event.event_type_value == "PIPELINE_SUCCESS")
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name, dagster_instance=driver.instance, dagster_run=run, dagster_event=event
    )
    return result, list(sensor(context))


def test_the_jobs_plan_becomes_runs_over_ranges_once(data: DataDirectory) -> None:
    with dg.instance_for_test() as instance:
        driver = Driver(declared(data, first=FIRST), instance)
        result, requests = launch(driver, first=HOURS[0].key, last=HOURS[4].key, windows_per_run=2)
    (output,) = [event for event in result.all_events if event.is_successful_output]
    assert plain(output.step_output_data.metadata) == {"windows": 5, "runs": 3}
    assert [tuple(request.tags[name] for name in RANGE) for request in requests] == [
        (HOURS[0].key, HOURS[1].key),
        (HOURS[2].key, HOURS[3].key),
        (HOURS[4].key, HOURS[4].key),
    ]
    assert len({request.run_key for request in requests}) == 3


def test_the_same_backfill_can_be_launched_once_more(data: DataDirectory) -> None:
    with dg.instance_for_test() as instance:
        driver = Driver(declared(data, first=FIRST), instance)
        chosen = {"first": HOURS[0].key, "last": HOURS[4].key, "windows_per_run": 2}
        (_, before), (_, after) = launch(driver, **chosen), launch(driver, **chosen)
    assert [request.tags for request in after] == [request.tags for request in before]
    assert not {request.run_key for request in after} & {request.run_key for request in before}


def test_the_sensor_turns_this_streams_backfills_into_runs_of_its_events(data: DataDirectory) -> None:
    definitions = Driver(declared(data, first=FIRST), dg.DagsterInstance.ephemeral()).definitions
    sensor: Any = definitions.resolve_sensor_def("network_backfill_runs")
    assert [job.name for job in sensor._monitored_jobs] == ["network_backfill"]
    assert [target.job_name for target in sensor.targets] == ["network_events"]


def test_a_wrong_plan_fails_with_one_line(data: DataDirectory) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        driver = Driver(declared(data, first=FIRST), instance)
        job = driver.definitions.resolve_job_def("network_backfill")
        with pytest.raises(dg.Failure, match="is not a time") as failure:
            job.execute_in_process(
                run_config={"ops": {"network_plan": {"config": {"first": "soon"}}}}, instance=instance
            )
    assert failure.value.allow_retries is False
