"""What is left of old runs, on real instances: over SQLite, and over Postgres where that is installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import RegisteredCodeLocationOrigin

from jetstream_pipeline.cli.main import cli
from jetstream_pipeline.orchestration.pruning import Pruned, prune

EVENTS = dg.AssetKey("events")
_HOURS = dg.HourlyPartitionsDefinition("2026-11-20-00:00", timezone="UTC", fmt="%Y-%m-%d-%H:%M")
KEYS = [f"2026-11-20-0{hour}:00" for hour in range(3)]
_SETTINGS = "telemetry: {enabled: false}\n"


@dg.asset(partitions_def=_HOURS, output_required=False, check_specs=[dg.AssetCheckSpec("complete", asset=EVENTS)])
def events(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    context.log.info("a line of many")
    if context.has_tag("fails"):
        raise dg.Failure("no")
    yield dg.MaterializeResult(metadata={"rows": 7}, data_version=dg.DataVersion("content"))
    yield dg.AssetCheckResult(check_name="complete", passed=True)


_DEFINITIONS = dg.Definitions(
    assets=[events],
    jobs=[dg.define_asset_job("all", selection=[events])],
    executor=dg.in_process_executor,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "dagster.yaml").write_text(_SETTINGS)
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, key: str, **tags: str) -> str:
    job = _DEFINITIONS.resolve_job_def("all")
    return job.execute_in_process(partition_key=key, tags=tags, instance=instance, raise_on_error=False).run_id


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
        "failed": run(instance, KEYS[1], fails="yes"),
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
    run(instance, KEYS[0])
    assert pruned(instance) == Pruned(deleted=1, stripped=1)
    assert instance.get_materialized_partitions(EVENTS) == set(KEYS[:2])


def test_over_sqlite_only_what_is_needed_stays_and_files_go(instance: dg.DagsterInstance, home: Path) -> None:
    check_that_only_what_is_needed_stays(instance)
    assert {path.name for path in home.glob("history/runs/*.db")} == {"index.db"}
    assert [path for path in home.rglob("*.err") if path.is_file()] == []


def test_only_runs_that_ended_long_ago_are_pruned(instance: dg.DagsterInstance) -> None:
    run(instance, KEYS[0], fails="yes")
    assert pruned(instance, datetime.now(UTC) - timedelta(hours=1)) == Pruned()
    for status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING):
        instance.create_run_for_job(_DEFINITIONS.resolve_job_def("all"), status=status)
    assert pruned(instance) == Pruned(deleted=1)
    assert instance.get_runs_count() == 3


def test_runs_that_those_under_way_refer_to_stay(instance: dg.DagsterInstance) -> None:
    first = run(instance, KEYS[0], fails="yes")
    instance.create_run_for_job(
        _DEFINITIONS.resolve_job_def("all"),
        status=dg.DagsterRunStatus.STARTED,
        root_run_id=first,
        parent_run_id=first,
    )
    run(instance, KEYS[1], fails="yes", **{"dagster/backfill": "goes_on"})
    run(instance, KEYS[2], fails="yes", **{"dagster/backfill": "ended"})
    origin = RegisteredCodeLocationOrigin("tests")
    for name, status in (("goes_on", BulkActionStatus.REQUESTED), ("ended", BulkActionStatus.COMPLETED_SUCCESS)):
        instance.add_backfill(PartitionBackfill(name, status, from_failure=False, tags={}, backfill_timestamp=0.0))
    assert origin
    assert pruned(instance) == Pruned(deleted=1, kept=2)


def test_a_batch_is_bounded_and_the_oldest_goes_first(instance: dg.DagsterInstance) -> None:
    ids = [run(instance, key, fails="yes") for key in KEYS]
    assert pruned(instance, most=2) == Pruned(deleted=2)
    assert [one.run_id for one in instance.get_runs()] == ids[2:]


def command(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["prune-runs", *arguments], env={"DAGSTER_HOME": str(home)})


def test_the_command_tells_what_it_did_and_vacuums(instance: dg.DagsterInstance, home: Path) -> None:
    runs_of_all_kinds(instance)
    assert command(home, "--older-than", "1h").stdout.startswith("0 runs deleted, 0 stripped")
    tomorrow = "UPDATE runs SET update_timestamp = '2026-01-01 00:00:00'"
    subprocess.run([sys.executable, "-c", _EXECUTE, home / "history" / "runs.db", tomorrow], check=True)
    told = command(home, "--dry-run").stdout
    assert told == "2 runs would be deleted, 2 would be stripped of their logs, 0 kept for others that go on\n"
    done = command(home, "--vacuum").stdout.splitlines()
    assert done[0] == "2 runs deleted, 2 stripped of their logs, 0 kept for others that go on"
    assert [line.split(":")[0].rpartition("/")[2] for line in done[1:]] == ["index.db", "runs.db", "schedules.db"]


_EXECUTE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute(sys.argv[2])
connection.commit()
"""


def test_what_cannot_be_meant_is_told(tmp_path: Path) -> None:
    for arguments in (["--older-than", "soon"], ["--older-than", "0d"]):
        assert "write a number of days or hours" in str(command(tmp_path, *arguments).exception)
    assert "DAGSTER_HOME" in str(command(tmp_path).exception)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own on a socket; its address."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("dagster_postgres")
    folder = Path(tmp_path_factory.mktemp("pg"))
    user = [] if os.geteuid() else ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if user and shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and setpriv is not installed")
    place = Path("/tmp") / f"jetstream-pg-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if user:
        shutil.chown(place, "postgres", "postgres")
    data = place / "data"
    try:
        made = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run([*user, *made], check=True, capture_output=True, cwd=place)
        options = f"-c listen_addresses='' -c unix_socket_directories={place} -c fsync=off"
        start = [programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", place / "log", "start"]
        subprocess.run([*user, *start], check=True, capture_output=True, cwd=place)
        try:
            yield f"postgresql://postgres@/postgres?host={place}"
        finally:
            stop = [programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
            subprocess.run([*user, *stop], check=True, capture_output=True, cwd=place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        assert folder


def test_over_postgres_only_what_is_needed_stays(tmp_path: Path, postgres: str) -> None:
    address = postgres.replace("postgresql://", "postgresql+psycopg2://")
    settings = f"{_SETTINGS}storage: {{postgres: {{postgres_url: '{address}'}}}}\n"
    (tmp_path / "dagster.yaml").write_text(settings)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        check_that_only_what_is_needed_stays(instance)
