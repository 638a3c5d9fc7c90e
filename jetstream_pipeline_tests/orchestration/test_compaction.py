"""Days are made once a day, of a stream that says so, and nothing of them is missed or asked for."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg
import pytest

from jetstream_pipeline.orchestration import compaction
from jetstream_pipeline.orchestration.compaction import compaction_definitions
from jetstream_pipeline.storage import days
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.catching_up import Known, plan
from jetstream_pipeline_tests.orchestration.driving import Driver, declared, hours_ago
from jetstream_pipeline_tests.windows import store


def test_a_stream_that_does_not_say_so_has_no_such_job(data: DataDirectory) -> None:
    names = [job.name for job in Driver(declared(data), dg.DagsterInstance.ephemeral()).definitions.jobs or ()]
    assert "network_compaction" not in names


def test_a_stream_with_tables_in_iceberg_may_say_so(data: DataDirectory) -> None:
    stream = declared(data, compact={"after_days": 2}, iceberg="sqlite")
    assert stream.compact_after == timedelta(days=2)


def test_the_daily_job_makes_days_of_what_is_old_enough(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    old, young = (now.date() - timedelta(days=number) for number in (3, 2))
    monkeypatch.setattr(compaction, "datetime", SimpleNamespace(now=lambda _: now))
    monkeypatch.setattr(days, "SEEN_SEC", 0.0)
    for window in (*hours_of(old), *hours_of(young), hours_ago(2)):
        store(data, [], window)
    first = hours_of(old)[0]
    stream = declared(data, first=first, compact={"after_days": 2}, report=False, tables=[])
    with dg.DagsterInstance.ephemeral() as instance:
        (schedule,) = compaction_definitions(stream).schedules or ()
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        job = compaction_definitions(stream).resolve_job_def("network_compaction")
        result = job.execute_in_process(instance=instance)
        (output,) = [event for event in result.all_events if event.is_successful_output]
        metadata = output.step_output_data.metadata
        assert (metadata["days"].value, metadata["files_before"].value, metadata["days_kept"].value) == (1, 24, 0)
    assert data.lake.marked("network") == {old}
    known = Known(data.lake.whole("network"), frozenset(), {})
    planned = plan(stream.beginning(now), now, known, settle=timedelta(), look_back=timedelta(days=9), most=100)
    missing = {window.start.date() for window in (*planned.ask, *planned.waiting, *planned.lost)}
    assert not missing & {old, young}
    assert stream.standing(hours_of(old)[7])
