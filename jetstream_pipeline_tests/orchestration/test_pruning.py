"""What is left of old runs, on real instances: over SQLite, and over Postgres where that is installed."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from jetstream_pipeline.cli.main import cli
from jetstream_pipeline.orchestration.pruning import Pruned, prune
from jetstream_pipeline.orchestration.pruning_job import pruning_definitions
from jetstream_pipeline.settings import Settings

EVENTS = dg.AssetKey("events")
_HOURS = dg.HourlyPartitionsDefinition("2026-11-20-00:00", timezone="UTC", fmt="%Y-%m-%d-%H:%M")
KEYS = [f"2026-11-20-0{hour}:00" for hour in range(3)]
_SETTINGS = "telemetry: {enabled: false}\n"


@dg.asset(partitions_def=_HOURS, output_required=False, check_specs=[dg.AssetCheckSpec("complete", asset=EVENTS)])
def events(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    context.log.info("a line of many")
    yield dg.MaterializeResult(metadata={"rows": 7}, data_version=dg.DataVersion("content"))
    yield dg.AssetCheckResult(check_name="complete", passed=True)


_JOB = dg.Definitions(
    assets=[events], jobs=[dg.define_asset_job("all", selection=[events])], executor=dg.in_process_executor
).resolve_job_def("all")


@pytest.fixture(scope="module")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dagster's databases, which take seconds to be made."""
    folder: Path = tmp_path_factory.mktemp("home")
    (folder / "dagster.yaml").write_text(_SETTINGS)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        instance.get_runs(limit=1)
        instance.all_instigator_state()
    return folder


@pytest.fixture
def home(new_home: Path, tmp_path: Path) -> Path:
    return shutil.copytree(new_home, tmp_path / "dagster")


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, key: str, **tags: str) -> str:
    """A real one."""
    result = _JOB.execute_in_process(partition_key=key, tags=tags, instance=instance, raise_on_error=False)
    return result.run_id


def stands(instance: dg.DagsterInstance, status: dg.DagsterRunStatus = dg.DagsterRunStatus.FAILURE, **said: Any) -> str:
    """One that stands so, without having run."""
    return instance.create_run_for_job(_JOB, status=status, **said).run_id


def pruned(instance: dg.DagsterInstance, before: datetime | None = None, **options: bool | int) -> Pruned:
    moment = before or datetime.now(UTC) + timedelta(minutes=1)
    return sum(prune(instance, moment, **options), Pruned())  # type: ignore[arg-type]


def state(instance: dg.DagsterInstance) -> object:
    """What partitions, versions and checks are read from."""
    materializations = []
    for record in instance.fetch_materializations(EVENTS, limit=100).records:
        assert record.asset_materialization
        materializations.append((record.storage_id, record.run_id, record.asset_materialization))
    latest = {one.partition: (number, run_id, one) for number, run_id, one in reversed(materializations)}
    check = dg.AssetCheckKey(EVENTS, "complete")
    checks = instance.event_log_storage.get_asset_check_execution_history(check, limit=100)
    return instance.get_materialized_partitions(EVENTS), latest, [(one.run_id, one.status) for one in checks]


def test_what_dagster_offers_itself_makes_partitions_look_missing(instance: dg.DagsterInstance) -> None:
    instance.delete_run(run(instance, KEYS[0]))
    assert instance.get_materialized_partitions(EVENTS) == set()


def runs_of_all_kinds(instance: dg.DagsterInstance) -> dict[str, str]:
    return {
        "superseded": run(instance, KEYS[0]),
        "failed": stands(instance),
        "last": run(instance, KEYS[0]),
        "only": run(instance, KEYS[1]),
    }


def check_that_only_what_is_needed_stays(instance: dg.DagsterInstance) -> None:
    ids = runs_of_all_kinds(instance)
    before = state(instance)
    assert pruned(instance, dry_run=True) == Pruned(deleted=2, stripped=2)
    assert state(instance) == before
    assert instance.get_runs_count() == 4
    assert pruned(instance) == Pruned(deleted=2, stripped=2)
    assert state(instance) == before
    assert {one.run_id for one in instance.get_runs()} == {ids["last"], ids["only"]}
    assert not [
        one for one in instance.get_records_for_run(ids["last"]).records if not one.event_log_entry.is_dagster_event
    ]
    assert pruned(instance) == Pruned()


def test_over_sqlite_only_what_is_needed_stays_and_files_go(instance: dg.DagsterInstance, home: Path) -> None:
    check_that_only_what_is_needed_stays(instance)
    shards = [path for path in home.glob("history/runs/*.db") if path.name != "index.db"]
    assert {path.stem for path in shards} == {one.run_id for one in instance.get_runs()}
    assert max(path.stat().st_size for path in shards) < 40_000
    assert list(home.rglob("*.err")) == []
    run(instance, KEYS[0])
    assert pruned(instance, dry_run=True) == Pruned(deleted=1, stripped=1)


def test_only_runs_that_ended_long_ago_are_pruned(instance: dg.DagsterInstance) -> None:
    stands(instance)
    assert pruned(instance, datetime.now(UTC) - timedelta(hours=1)) == Pruned()
    for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING):
        stands(instance, status)
    assert pruned(instance) == Pruned(deleted=1)
    assert instance.get_runs_count() == 3


def test_runs_that_those_under_way_refer_to_stay(instance: dg.DagsterInstance) -> None:
    first = stands(instance)
    stands(instance, dg.DagsterRunStatus.STARTED, root_run_id=first, parent_run_id=first)
    for name, status in (("goes_on", BulkActionStatus.REQUESTED), ("ended", BulkActionStatus.COMPLETED_SUCCESS)):
        stands(instance, tags={"dagster/backfill": name})
        instance.add_backfill(PartitionBackfill(name, status, from_failure=False, tags={}, backfill_timestamp=0.0))
    assert pruned(instance) == Pruned(deleted=1, kept=2)


def test_a_batch_is_bounded_and_the_oldest_goes_first(instance: dg.DagsterInstance) -> None:
    ids = [stands(instance) for _ in range(3)]
    assert pruned(instance, most=2) == Pruned(deleted=2)
    assert [one.run_id for one in instance.get_runs()] == ids[2:]


def test_the_last_success_of_a_partition_stays_for_who_asks_what_it_had(instance: dg.DagsterInstance) -> None:
    tags = {"dagster/partition": KEYS[0]}
    _, last = (stands(instance, dg.DagsterRunStatus.SUCCESS, tags=tags) for _ in range(2))
    assert pruned(instance) == Pruned(deleted=1)
    assert [one.run_id for one in instance.get_runs()] == [last]


def command(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["prune-runs", *arguments], env={"DAGSTER_HOME": str(home)})


def test_the_command_tells_what_it_did_and_vacuums(instance: dg.DagsterInstance, home: Path) -> None:
    for _ in range(2):
        stands(instance)
    assert command(home, "--older-than", "1h").stdout.startswith("0 runs deleted, 0 stripped")
    with closing(sqlite3.connect(home / "history" / "runs.db")) as runs, runs:
        runs.execute("UPDATE runs SET update_timestamp = '2026-01-01 00:00:00'")
    told = command(home, "--dry-run").stdout
    assert told == "2 runs would be deleted, 0 would be stripped of their logs, 0 kept for others that go on\n"
    done = command(home, "--vacuum").stdout.splitlines()
    assert done[0] == "2 runs deleted, 0 stripped of their logs, 0 kept for others that go on"
    assert [line.split(":")[0].rpartition("/")[2] for line in done[1:]] == ["index.db", "runs.db", "schedules.db"]


def test_where_days_are_set_a_job_prunes_once_a_day(instance: dg.DagsterInstance) -> None:
    assert pruning_definitions(Settings()).schedules in ([], None)
    definitions = pruning_definitions(Settings(keep_runs_days=30))
    (schedule,) = definitions.schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    stands(instance)
    result = definitions.resolve_job_def(schedule.job_name).execute_in_process(instance=instance)
    assert result.success
    assert instance.get_runs_count() == 2


def test_what_cannot_be_meant_is_told(tmp_path: Path) -> None:
    assert "write a number of days or hours" in command(tmp_path, "--older-than", "soon").output
    assert "leave one out" in str(command(tmp_path, "--vacuum", "--dry-run").exception)
    assert "write 1h or more" in str(command(tmp_path, "--older-than", "0d").exception)
    assert "DAGSTER_HOME" in str(command(tmp_path).exception)


def test_over_postgres_only_what_is_needed_stays(tmp_path: Path, postgres_url: str) -> None:
    pytest.importorskip("dagster_postgres")
    address = postgres_url.replace("postgresql://", "postgresql+psycopg2://")
    storage = {"postgres": {"postgres_url": address}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}, "storage": storage}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        check_that_only_what_is_needed_stays(instance)
