"""What is deleted by a stream's limits is neither missed, nor asked for, nor derived again."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from jetstream_pipeline.orchestration.backfills import BackfillConfig, planned_spans
from jetstream_pipeline.orchestration.checks import stream_checks
from jetstream_pipeline.orchestration.retention import retention_definitions
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.catching_up import Known, plan
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline_tests.orchestration.driving import EVENTS, Driver, declared, hours_ago
from jetstream_pipeline_tests.windows import commit, store

OLD, NEW = hours_ago(60), hours_ago(3)


def limited(data: DataDirectory, **said: object) -> Stream:
    return declared(data, first=OLD, look_back_hours=100, retention={"events": {"days": 2}}, **said)


def pruned(stream: Stream, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = retention_definitions(stream).resolve_job_def("network_retention")
    return job.execute_in_process(instance=instance)


def test_a_stream_without_limits_has_no_such_job(data: DataDirectory) -> None:
    names = [job.name for job in Driver(declared(data), dg.DagsterInstance.ephemeral()).definitions.jobs or ()]
    assert "network_retention" not in names


def test_the_daily_job_deletes_what_is_beyond_the_limits_and_tells_how_much(data: DataDirectory) -> None:
    for window in (OLD, NEW):
        store(data, [commit("{}")], window)
    with dg.DagsterInstance.ephemeral() as instance:
        driver = Driver(limited(data), instance)
        (schedule,) = [one for one in driver.definitions.schedules or () if one.name == "network_retention_daily"]
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        result = pruned(driver.stream, instance)
        (output,) = [event for event in result.all_events if event.is_successful_output]
        metadata = output.step_output_data.metadata
        assert (metadata["windows_deleted"].value, metadata["windows_kept"].value) == (1, 0)
        assert data.lake.whole("network") == {NEW}


def test_what_was_deleted_is_not_missing_and_not_asked_for(data: DataDirectory) -> None:
    for window in (OLD, NEW):
        store(data, [commit("{}")], window)
    stream, now = limited(data), datetime.now(UTC)
    assert stream.beginning(now) == OLD.start
    with dg.DagsterInstance.ephemeral() as instance:
        pruned(stream, instance)
    after = datetime.now(UTC)
    kept_from = stream.horizon().events
    assert kept_from
    assert now - timedelta(days=2, hours=1) < kept_from <= after - timedelta(days=2)
    assert stream.beginning(now) == kept_from
    known = Known(data.lake.whole("network"), frozenset(), {})
    planned = plan(stream.beginning(now), now, known, settle=timedelta(), look_back=timedelta(hours=24), most=100)
    assert not [window for window in (*planned.ask, *planned.waiting, *planned.lost) if window.start < kept_from]
    backfill = BackfillConfig(first="", last="", windows_per_run=24, only_missing=True)
    assert planned_spans(stream, backfill, now)[0].start == kept_from
    everything = plan(kept_from, now, known, settle=timedelta(), look_back=timedelta(days=9), most=0)
    _, history = stream_checks(stream, EVENTS, everything, now)
    assert history.passed


def test_consumers_forget_what_was_deleted(data: DataDirectory) -> None:
    store(data, [commit('{"text":1}')], OLD)
    store(data, [commit('{"text":1}')], NEW)
    with dg.DagsterInstance.ephemeral() as instance:
        stream = limited(data, report=False, tables=["posts"], queues=[{"name": "work"}])
        driver = Driver(stream, instance)
        driver.look("network_catch_up")
        assert {request.partition_key for request in driver.look("network_tables_for_new_windows")} == {
            OLD.key,
            NEW.key,
        }
        requests = driver.look("network_work_for_new_windows")
        pruned(stream, instance)
        assert OLD in data.lake.whole("network"), "the queue has not had it"
        for request in requests:
            assert driver.run("network_work", request).success
        pruned(stream, instance)
        assert OLD not in data.lake.whole("network")
        assert driver.look("network_tables_for_new_windows") == []
        assert OLD.key not in (driver.cursors["network_tables_for_new_windows"] or ""), "no longer pending"


def test_new_content_of_a_window_beyond_the_tables_limit_brings_no_tables(data: DataDirectory) -> None:
    store(data, [commit('{"text":1}')], OLD)
    store(data, [commit('{"text":1}')], NEW)
    with dg.DagsterInstance.ephemeral() as instance:
        stream = declared(data, first=OLD, tables=["posts"], report=False, retention={"tables": {"days": 2}})
        driver = Driver(stream, instance)
        driver.look("network_catch_up")
        assert driver.consume("tables") == {OLD.key: True, NEW.key: True}
        pruned(stream, instance)
        store(data, [commit('{"text":2}')], OLD)
        driver.look("network_catch_up")
        assert driver.consume("tables") == {}
        assert OLD in data.lake.whole("network")
