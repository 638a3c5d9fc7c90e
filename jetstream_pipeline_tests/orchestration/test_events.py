"""The events asset in a real Dagster instance, against a simulated host."""

import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration import failures
from jetstream_pipeline.simulator import Faults, Network, Simulator, running
from jetstream_pipeline.simulator.faults import Slow
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import WindowState, WindowSummary, read_summary
from jetstream_pipeline.streams import stream as streams
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.arguments import Recorder
from jetstream_pipeline_tests.orchestration.driving import (
    EVENTS,
    Driver,
    declared,
    failure_of,
    hours_ago,
    materializations,
    partitions_of,
    plain,
)

NETWORK = Network(rate=1)
FIRST, SECOND, THIRD = WINDOWS = [hours_ago(number) for number in (5, 4, 3)]
CHECKS = ["complete", "continuity", "volume", "quarantine", "schema"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(Simulator(NETWORK, pong_timeout=60)) as simulator:
        yield simulator.address


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_PAUSE_SEC", 0.02)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def driver(data: DataDirectory, instance: dg.DagsterInstance, *hosts: str, **said: Any) -> Driver:
    return Driver(declared(data, *hosts, first=FIRST, **said), instance)


def standing(data: DataDirectory, window: Window) -> WindowSummary:
    return read_summary(data.lake.events_path("network", window))


def pauses(result: dg.ExecuteInProcessResult) -> list[float]:
    """How long the step waited before each of its further attempts, in seconds."""
    return [event.step_retry_data.seconds_to_wait or 0.0 for event in result.all_events if event.is_step_up_for_retry]


def errors(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[str]:
    """What the run logged as errors, beside what Dagster did."""
    logs = instance.all_logs(result.run_id)
    return [entry.user_message for entry in logs if entry.level == logging.ERROR and not entry.is_dagster_event]


def test_a_partition_is_materialized_with_what_one_wants_to_know(
    data: DataDirectory, instance: dg.DagsterInstance, address: str
) -> None:
    dagster = driver(data, instance, address)
    assert dagster.replay(FIRST).success
    (materialization,) = dagster.materializations()
    path = data.lake.events_path("network", FIRST)
    rows = pq.ParquetFile(path).read(["kind", "collection"]).to_pylist()
    kinds = Counter(row["kind"] for row in rows)
    collections = Counter(row["collection"] for row in rows if row["collection"])
    summary = read_summary(path)
    assert summary.first_time
    assert summary.last_time
    assert summary.proof.position
    assert len(rows) > 1000
    assert materialization.partition == FIRST.key
    assert plain(materialization.metadata) == {
        "dagster/partition_row_count": len(rows),
        "state": "complete",
        "reason": summary.reason,
        "events_per_second": round(len(rows) / summary.seconds, 1),
        "seconds": round(summary.seconds, 1),
        "lag_minutes": round((summary.finished_at - FIRST.end) / timedelta(minutes=1), 1),
        "host": address.removeprefix("ws://"),
        "counts_by_kind": dict(kinds),
        "counts_by_collection": dict(collections),
        **{
            f"percent {name.removeprefix('app.bsky.')}": round(count / len(rows) * 100, 2)
            for name, count in collections.most_common(8)
        },
        "reconnections": 0,
        "repeats": 0,
        "resumptions": 0,
        "quarantined": 0,
        "repaired": 0,
        "start_shown_by": summary.proof.start_shown_by,
        "end_shown_by": summary.proof.end_shown_by,
        "first_time": summary.first_time.timestamp(),
        "last_time": summary.last_time.timestamp(),
        "position": summary.proof.position.timestamp(),
        "path": str(path),
        "bytes": path.stat().st_size,
    }
    assert materialization.tags
    assert materialization.tags["dagster/data_version"] == summary.content != ""
    assert materialization.tags["dagster/data_version_is_user_provided"] == "true"


def test_a_window_is_queried_as_soon_as_it_is_there(
    data: DataDirectory, instance: dg.DagsterInstance, address: str
) -> None:
    assert not data.warehouse.exists()
    assert driver(data, instance, address).replay(FIRST).success
    assert data.warehouse.exists()


def test_a_window_has_every_check(data: DataDirectory, instance: dg.DagsterInstance, address: str) -> None:
    dagster = driver(data, instance, address)
    assert dagster.replay(FIRST).success
    checks = dagster.checks()
    assert list(checks) == CHECKS
    assert all(check.passed for check in checks.values())
    assert all(plain(check.metadata)["windows"] == 1 for check in checks.values())
    assert {plain(check.metadata)["window"] for check in checks.values()} == {FIRST.key}
    assert checks["complete"].description == standing(data, FIRST).reason
    assert [name for name, check in checks.items() if check.severity is dg.AssetCheckSeverity.ERROR] == ["complete"]
    specs = {spec.name: spec.blocking for spec in dagster.definitions.resolve_assets_def(EVENTS).check_specs}
    assert specs == {name: name == "complete" for name in CHECKS}


def test_each_window_of_a_range_is_materialized_with_its_own_metadata(
    data: DataDirectory, instance: dg.DagsterInstance, address: str
) -> None:
    dagster = driver(data, instance, address)
    result = dagster.replay(*WINDOWS)
    assert result.success
    told = dagster.materializations()
    assert partitions_of(told) == [window.key for window in WINDOWS]
    summaries = [standing(data, window) for window in WINDOWS]
    assert [plain(one.metadata)["dagster/partition_row_count"] for one in told] == [one.events for one in summaries]
    assert [(one.tags or {})["dagster/data_version"] for one in told] == [one.content for one in summaries]
    assert len({summary.content for summary in summaries}) == 3
    checks = dagster.checks()
    assert list(checks) == CHECKS
    assert all(plain(check.metadata) == {"windows": 3, "failed": 0} for check in checks.values())
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(EVENTS, asset_partitions=[FIRST.key]), limit=10
    ).records
    assert record.timestamp < summaries[1].finished_at.timestamp(), "the first is told before the second is whole"


def test_a_window_that_fails_keeps_no_other_from_being_replayed(
    data: DataDirectory, instance: dg.DagsterInstance, address: str
) -> None:
    dagster = driver(data, instance, address)
    in_the_way = data.staging / "network" / f"{SECOND.start:%Y-%m-%d-%H%M}"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("")
    result = dagster.replay(*WINDOWS)
    assert not result.success
    assert partitions_of(dagster.materializations()) == [FIRST.key, THIRD.key]
    assert failure_of(result).startswith(f"{SECOND}: ")
    assert str(FIRST) not in failure_of(result)
    assert pauses(result) == [], "what will not pass is not tried again"
    (error,) = errors(instance, result)
    assert error.startswith(f"{SECOND}: ")
    assert error.endswith("; going on with the others")
    check = dagster.checks()["complete"]
    assert (check.passed, plain(check.metadata)) == (False, {"windows": 3, "failed": 1})
    assert (check.description or "").startswith(f"{SECOND}: ")
    assert plain(dagster.checks()["continuity"].metadata)["windows"] == 2


def test_a_window_that_is_incomplete_keeps_no_other_from_being_replayed_and_is_not_materialized(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    lookback = datetime.now(UTC) - FIRST.start - timedelta(minutes=30)
    with running(Simulator(NETWORK, lookback=lookback)) as simulator:
        dagster = driver(data, instance, simulator.address)
        result = dagster.replay(*WINDOWS)
    assert not result.success
    assert partitions_of(dagster.materializations()) == [SECOND.key, THIRD.key]
    assert failure_of(result).startswith(f"{FIRST} is truncated: ")
    assert pauses(result) == []
    reason = read_summary(data.lake.incomplete_path("network", FIRST)).reason
    assert errors(instance, result) == [f"{FIRST}: {reason}; going on with the others"]
    check = dagster.checks()["complete"]
    assert (check.passed, plain(check.metadata)) == (False, {"windows": 3, "failed": 1})
    assert (check.description or "").startswith(f"{FIRST}: truncated: ")


def test_an_incomplete_window_fails_the_run_and_is_not_tried_again(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    lookback = datetime.now(UTC) - FIRST.start - timedelta(minutes=30)
    with running(Simulator(NETWORK, lookback=lookback)) as simulator:
        dagster = driver(data, instance, simulator.address)
        result = dagster.replay(FIRST)
    assert not result.success
    assert dagster.materializations() == []
    assert list(dagster.checks()) == ["complete"]
    assert not dagster.checks()["complete"].passed
    assert pauses(result) == []
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure
    metadata = plain(failure.metadata)
    summary = read_summary(data.lake.incomplete_path("network", FIRST))
    assert failure.description == f"{FIRST} is truncated: {summary.reason}"
    assert (metadata["windows"], metadata["windows_whole"], metadata["state"]) == (1, 0, "truncated")
    assert metadata["dagster/partition_row_count"] == summary.events > 0


def test_what_may_pass_is_tried_again_three_times_after_pauses_that_double(
    data: DataDirectory, instance: dg.DagsterInstance, address: str
) -> None:
    dagster = driver(data, instance, address)
    with staged(data, "network", FIRST):
        result = dagster.replay(FIRST)
    assert not result.success
    assert failure_of(result).startswith("another run is at network")
    assert not dagster.checks()["complete"].passed
    for number, pause in enumerate(pauses(result)):
        assert 0.01 * 2**number <= pause <= 0.02 * 2**number
    assert len(pauses(result)) == 3


def test_what_passed_meanwhile_succeeds(
    data: DataDirectory, instance: dg.DagsterInstance, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = ExitStack()
    stack.enter_context(staged(data, "network", SECOND))
    real = streams.replay_window
    asked: list[Window] = []

    def replay(*given: Any, **named: Any) -> WindowSummary:
        asked.append(given[2])
        if asked.count(SECOND) == 2:
            stack.close()
        return real(*given, **named)

    monkeypatch.setattr(streams, "replay_window", replay)
    dagster = driver(data, instance, address)
    result = dagster.replay(*WINDOWS)
    assert result.success
    assert asked == [FIRST, SECOND, THIRD, SECOND], "what was whole is not replayed by the second attempt"
    assert set(partitions_of(dagster.materializations())) == {window.key for window in WINDOWS}
    assert dagster.checks()["complete"].passed
    assert plain(dagster.checks()["complete"].metadata) == {"windows": 3, "failed": 0}


def test_a_programming_error_ends_the_run_at_once_and_what_was_finished_stays(
    data: DataDirectory, instance: dg.DagsterInstance, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = streams.replay_window
    asked: list[Window] = []

    def replay(*given: Any, **named: Any) -> WindowSummary:
        asked.append(given[2])
        return real(*given, **named) if given[2] != SECOND else 1 // 0  # type: ignore[return-value]

    monkeypatch.setattr(streams, "replay_window", replay)
    dagster = driver(data, instance, address)
    result = dagster.replay(*WINDOWS)
    assert not result.success
    assert asked == [FIRST, SECOND]
    assert partitions_of(dagster.materializations()) == [FIRST.key]


def test_a_retried_run_replays_only_what_its_first_run_did_not_finish(
    data: DataDirectory, instance: dg.DagsterInstance, address: str
) -> None:
    dagster = driver(data, instance, address)
    with staged(data, "network", SECOND):
        first = dagster.replay(*WINDOWS)
    assert not first.success
    before = {window: standing(data, window).finished_at for window in (FIRST, THIRD)}
    assert dagster.again(first.run_id)
    assert {window: standing(data, window).finished_at for window in (FIRST, THIRD)} == before
    assert set(partitions_of(dagster.materializations())) == {window.key for window in WINDOWS}


def test_a_run_of_its_own_replays_what_stands(data: DataDirectory, instance: dg.DagsterInstance, address: str) -> None:
    dagster = driver(data, instance, address)
    assert dagster.replay(FIRST).success
    before = standing(data, FIRST)
    assert dagster.replay(FIRST).success
    assert standing(data, FIRST).finished_at > before.finished_at
    assert standing(data, FIRST).content == before.content
    assert partitions_of(dagster.materializations()) == [FIRST.key, FIRST.key]


def test_what_a_person_executes_again_replays_what_stands(
    data: DataDirectory, instance: dg.DagsterInstance, address: str
) -> None:
    dagster = driver(data, instance, address)
    first = dagster.replay(FIRST)
    assert first.success
    before = standing(data, FIRST)
    job = dagster.definitions.resolve_job_def("network_events")
    tags = {"dagster/partition": FIRST.key}
    run = instance.create_run_for_job(job, tags=tags, root_run_id=first.run_id, parent_run_id=first.run_id)
    assert execute_run(InMemoryJob(job), run, instance).success
    assert standing(data, FIRST).finished_at > before.finished_at
    assert partitions_of(dagster.materializations()) == [FIRST.key, FIRST.key]


_RUN = """
import sys
from pathlib import Path
import dagster as dg
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.driving import Driver, declared
home, root, address, *keys = sys.argv[1:]
windows = [Window.from_key(key) for key in keys]
with dg.DagsterInstance.local_temp(home) as instance:
    Driver(declared(DataDirectory(Path(root)), address, first=windows[0]), instance).replay(*windows)
"""


def test_a_run_that_is_killed_keeps_what_was_finished_and_its_retry_does_the_rest(
    data: DataDirectory, address: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = str(tmp_path_factory.mktemp("dagster"))
    faults = Faults(script=(None, Slow(bytes_per_second=1000)))
    with running(Simulator(NETWORK, faults=faults)) as slow, dg.DagsterInstance.local_temp(home) as instance:
        command = [sys.executable, "-c", _RUN, home, str(data.root), slow.address, *(one.key for one in WINDOWS)]
        killed = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not materializations(instance) and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        killed.kill()
        killed.wait()
        assert partitions_of(materializations(instance)) == [FIRST.key]
        (run,) = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.STARTED
        finished = standing(data, FIRST).finished_at
        dagster = driver(data, instance, address)
        assert dagster.again(run.run_id)
        assert standing(data, FIRST).finished_at == finished
        assert {one.partition for one in materializations(instance)} == {window.key for window in WINDOWS}
        assert all(standing(data, window).state is WindowState.COMPLETE for window in WINDOWS)


def test_runs_of_a_backfill_take_as_many_windows_as_the_stream_says(data: DataDirectory) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        free = driver(data, instance).definitions.resolve_assets_def(EVENTS)
        bound = driver(data, instance, windows_per_run=24).definitions.resolve_assets_def(EVENTS)
    assert free.backfill_policy is None
    assert bound.backfill_policy == dg.BackfillPolicy.multi_run(24)


def test_the_pool_is_that_of_the_first_host(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    definitions = driver(data, instance, "jetstream2.us-east.bsky.network", "ws://other:80").definitions
    expected = "jetstream_jetstream2_us_east_bsky_network"
    assert definitions.resolve_assets_def(EVENTS).op.pool == expected
    assert definitions.resolve_job_def("network_verification").graph.node_named("network_verify").definition.pool == (
        expected
    )


def test_the_settings_reach_it(
    data: DataDirectory, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Recorder()
    monkeypatch.setattr(streams, "replay_window", asked)
    stream = declared(
        data,
        "one.example",
        "two.example",
        first=FIRST,
        collections=["app.bsky.graph.*"],
        settle_minutes=7,
        host_skew_seconds=11,
        wire="v1",
    )
    assert not Driver(stream, instance).replay(FIRST).success
    asked.holds(stream, "network", Subscription(("app.bsky.graph.*",)), FIRST)
    assert callable(asked.named["on_progress"])
