"""What the doctor says of windows, tables, staging, the quarantine, queues and old layouts, in real lakes."""

import os
import shutil
from datetime import timedelta

import pyarrow.parquet as pq

from jetstream_pipeline.doctor.disk import examine_disk
from jetstream_pipeline.doctor.finding import Severity
from jetstream_pipeline.doctor.quarantine import examine_quarantine
from jetstream_pipeline.doctor.queues import examine_queues
from jetstream_pipeline.doctor.staging import examine_staging
from jetstream_pipeline.doctor.tables import examine_tables
from jetstream_pipeline.doctor.versions import examine_versions
from jetstream_pipeline.doctor.windows import examine_windows
from jetstream_pipeline.storage.horizon import Horizon, write_horizon
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.doctor.cases import NOW, case, found, hours_before
from jetstream_pipeline_tests.quality.summaries import put, summary
from jetstream_pipeline_tests.windows import commit, store


def put_whole(data: DataDirectory, *windows: Window) -> None:
    for window in windows:
        put(data.lake.events_path("network", window), summary(window))


def test_a_stream_with_every_window_is_well(data: DataDirectory) -> None:
    put_whole(data, *map(hours_before, range(5)))
    ((severity, text),) = found(examine_windows, case(data, start=hours_before(4).start))
    assert severity is Severity.OK
    assert "has every window since 2026-07-04 15:00 UTC" in text


def test_the_most_urgent_of_what_is_missing_is_told_with_its_end_and_how_to_have_it(data: DataDirectory) -> None:
    put_whole(data, hours_before(8), *map(hours_before, range(4)))
    ((severity, text),) = found(examine_windows, case(data, start=hours_before(8).start, look_back_hours=12))
    assert severity is Severity.PROBLEM
    assert "lacks 4 windows (2026-07-04 12:00–16:00 UTC)" in text
    assert "until 2026-07-05 00:00 UTC, for 4 h" in text
    assert "replay --stream network --start 2026-07-04-12:00 --end 2026-07-04-16:00" in text
    ((severity, _),) = found(examine_windows, case(data, start=hours_before(8).start))
    assert severity is Severity.WARNING


def test_a_stream_that_begins_in_the_future_is_not_called_well(data: DataDirectory) -> None:
    ((severity, text),) = found(examine_windows, case(data, start=NOW + timedelta(days=365)))
    assert severity is Severity.WARNING
    assert "begins only at 2027-07-04 20:30 UTC" in text


def test_a_new_stream_has_no_window_that_it_was_to_have(data: DataDirectory) -> None:
    ((severity, text),) = found(examine_windows, case(data))
    assert severity is Severity.WARNING
    assert "lacks 35 windows (2026-07-03 09:00 UTC – 2026-07-04 20:00 UTC)" in text


def test_what_no_host_has_any_more_is_told_apart(data: DataDirectory) -> None:
    put_whole(data, *map(hours_before, range(8)), hours_before(10))
    ((severity, text),) = found(examine_windows, case(data, start=hours_before(10).start, look_back_hours=6))
    assert severity is Severity.WARNING
    assert "lacks 2 windows older than JETSTREAM_LOOK_BACK_HOURS (2026-07-04 10:00–12:00 UTC)" in text
    assert "archive" in text


def test_a_window_under_way_is_not_missing(data: DataDirectory) -> None:
    put_whole(data, *map(hours_before, range(1, 4)))
    with staged(data, "network", hours_before(0)):
        told = found(examine_windows, case(data, start=hours_before(3).start))
    assert [severity for severity, _ in told] == [Severity.OK, Severity.OK]
    assert told[1][1] == f"network: {hours_before(0)} under way"


def test_incomplete_and_damaged_windows_are_told_with_their_reason(data: DataDirectory) -> None:
    put_whole(data, *map(hours_before, range(3)))
    said = summary(hours_before(3), state=WindowState.TRUNCATED)
    put(data.lake.incomplete_path("network", hours_before(3)), said)
    data.lake.events_path("network", hours_before(1)).write_bytes(b"no parquet")
    told = found(examine_windows, case(data, declared=False))
    assert told[0] == (
        Severity.WARNING,
        f"network {hours_before(3)} is truncated: a test says so; replay it from a host that has it",
    )
    assert told[1][0] is Severity.PROBLEM
    assert "is damaged" in told[1][1]


def test_tables_that_are_stale_or_lacking_are_told_by_name(data: DataDirectory) -> None:
    window = hours_before(0)
    store(data, [commit('{"text":"first"}')], window)
    ((_, lacking),) = [one for one in found(examine_tables, case(data)) if "/posts " in one[1]]
    assert f"network/posts is stale or lacking for 1 window ({window})" in lacking
    for table in TABLES:
        build_table(table, "network", window, data.lake)
    ((severity, _),) = found(examine_tables, case(data))
    assert severity is Severity.OK
    store(data, [commit('{"text":"second"}')], window)
    assert any("network/posts is stale" in text for _, text in found(examine_tables, case(data)))


def test_tables_that_limits_have_deleted_are_not_lacking(data: DataDirectory) -> None:
    for number in (0, 1):
        store(data, [commit('{"text":"first"}')], hours_before(number))
    for table in TABLES:
        build_table(table, "network", hours_before(0), data.lake)
    assert found(examine_tables, case(data))[0][0] is Severity.WARNING
    write_horizon(data.lake.horizon_path("network"), Horizon(tables=hours_before(0).start))
    ((severity, _),) = found(examine_tables, case(data))
    assert severity is Severity.OK


def test_a_stream_without_tables_wants_none(data: DataDirectory) -> None:
    store(data, [commit('{"text":"first"}')], hours_before(0))
    assert found(examine_tables, case(data, declared=False)) == []


def test_staging_that_nobody_holds_is_told_with_what_becomes_of_it(data: DataDirectory) -> None:
    assert found(examine_staging, case(data))[0][0] is Severity.OK
    fresh, old = data.staging / "network" / "2026-07-04-1800", data.staging / "network" / "2026-06-01-0000-verify"
    for folder, age in ((fresh, timedelta(hours=2)), (old, timedelta(days=9))):
        folder.mkdir(parents=True)
        (folder / "000001-00000000.events").write_bytes(b"0" * 5000)
        for path in (folder / "000001-00000000.events", folder):
            os.utime(path, ((NOW - age).timestamp(),) * 2)
    told = found(examine_staging, case(data))
    assert [severity for severity, _ in told] == [Severity.WARNING] * 2
    assert "verify of network 2026-06-01 00:00–01:00 UTC: 5.0 KB, 9 days old; nobody goes on with it" in told[0][1]
    assert "a replay of network 2026-07-04 18:00–19:00 UTC: 5.0 KB, 2 h old; run it again" in told[1][1]
    shutil.rmtree(old)
    with staged(data, "network", Window.from_key("2026-07-04-18:00")):
        ((severity, text),) = found(examine_staging, case(data))
    assert severity is Severity.OK
    assert text.endswith("1 window under way there")


def test_what_lies_in_the_quarantine_is_to_be_read_again(data: DataDirectory) -> None:
    assert found(examine_quarantine, case(data)) == [(Severity.OK, "the quarantine is empty")]
    store(data, [b"no event", b"neither"], hours_before(0))
    ((severity, text),) = found(examine_quarantine, case(data))
    assert severity is Severity.WARNING
    assert text.startswith("2 messages of network could not be read")
    assert text.endswith("jetstream-pipeline quarantine retry network")


def test_dead_letters_and_queues_in_use_are_told(data: DataDirectory) -> None:
    queue = Queue("busy", create_new_queue=True, data_dir=data.root, max_attempts=1)
    queue.add("1")
    assert found(examine_queues, case(data)) == [(Severity.OK, "busy: 1 pending, 0 claimed")]
    queue.fail(queue.claim(), "no")
    ((severity, text),) = found(examine_queues, case(data))
    assert severity is Severity.WARNING
    assert "queue requeue busy --dead" in text


def test_files_of_an_older_layout_are_told(data: DataDirectory) -> None:
    put_whole(data, hours_before(0))
    store(data, [commit('{"text":"first"}')], hours_before(5))
    assert "position" in pq.read_schema(data.lake.events_path("network", hours_before(5))).names
    told = found(examine_versions, case(data))
    assert [severity for severity, _ in told] == [Severity.OK, Severity.WARNING]
    assert f"1 window of network of an older layout, without the column position ({hours_before(0)})" in told[1][1]


def test_a_lake_in_an_object_store_is_looked_at_alike(remote_data: DataDirectory) -> None:
    store(remote_data, [commit('{"text":"first"}'), b"no event"], hours_before(0))
    asked = case(remote_data, start=hours_before(0).start, lake=str(remote_data.lake_root))
    assert [severity for severity, _ in found(examine_windows, asked)] == [Severity.OK]
    assert "1 message of network" in found(examine_quarantine, asked)[0][1]
    assert any("network/posts is stale or lacking" in text for _, text in found(examine_tables, asked))
    assert [severity for severity, _ in found(examine_versions, asked)] == [Severity.OK] * 2
    assert "the windows lie elsewhere" in " ".join(text for _, text in found(examine_disk, asked))
