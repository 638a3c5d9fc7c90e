"""A backfill's launcher chooses how many windows a run takes; each of the runs is asked for once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration.backfills import BackfillConfig, planned_spans
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.driving import RANGE, Driver, declared, hours_ago
from jetstream_pipeline_tests.windows import store

NOW = datetime.now(UTC)
HOURS = [hours_ago(number) for number in range(12, 2, -1)]
FIRST = HOURS[0]


def planned(data: DataDirectory, **config: Any) -> list[tuple[str, str]]:
    spans = planned_spans(declared(data, first=FIRST), BackfillConfig(**config), NOW)
    return [(span.start.isoformat(), span.end.isoformat()) for span in spans]


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


def test_the_jobs_plan_becomes_runs_over_ranges_once(data: DataDirectory) -> None:
    with dg.instance_for_test() as instance:
        driver = Driver(declared(data, first=FIRST), instance)
        config = {"first": HOURS[0].key, "last": HOURS[4].key, "windows_per_run": 2}
        job = driver.definitions.resolve_job_def("network_backfill")
        result = job.execute_in_process(
            run_config={"ops": {"network_plan": {"config": config}}}, instance=instance, raise_on_error=False
        )
        assert result.success
        sensor = driver.definitions.resolve_sensor_def("network_backfill_runs")
        run = instance.get_run_by_id(result.run_id)
        event = next(event for event in result.all_events if event.event_type_value == "PIPELINE_SUCCESS")
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name, dagster_instance=instance, dagster_run=run, dagster_event=event
        )
        requests = list(sensor(context))
    assert [tuple(request.tags[name] for name in RANGE) for request in requests] == [
        (HOURS[0].key, HOURS[1].key),
        (HOURS[2].key, HOURS[3].key),
        (HOURS[4].key, HOURS[4].key),
    ]
    assert len({request.run_key for request in requests}) == 3


def test_a_wrong_plan_fails_with_one_line(data: DataDirectory) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        driver = Driver(declared(data, first=FIRST), instance)
        job = driver.definitions.resolve_job_def("network_backfill")
        with pytest.raises(dg.Failure, match="is not a time") as failure:
            job.execute_in_process(
                run_config={"ops": {"network_plan": {"config": {"first": "soon"}}}}, instance=instance
            )
    assert failure.value.allow_retries is False
