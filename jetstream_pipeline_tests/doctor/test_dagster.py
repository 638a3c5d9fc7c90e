"""What the doctor says of Dagster's home, by real instances."""

import os
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from jetstream_pipeline.doctor.examine import examine
from jetstream_pipeline.doctor.finding import Severity
from jetstream_pipeline.orchestration.health import examine_dagster
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.doctor.cases import case, found

_OURS = (resources.files("jetstream_pipeline.orchestration") / "dagster.yaml").read_text()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(_OURS)
    return folder


def look(data: DataDirectory, home: Path | str) -> list[tuple[Severity, str]]:
    return found(examine_dagster, case(data, now=None, environment={"DAGSTER_HOME": str(home)}))


def test_without_a_home_dagster_is_not_looked_at(data: DataDirectory) -> None:
    ((severity, text),) = found(examine_dagster, case(data))
    assert severity is Severity.OK
    assert "is not set" in text


@pytest.mark.parametrize("named", ["data/dagster", "/nowhere/at/all", os.sep])
def test_a_home_that_is_none_is_a_problem(data: DataDirectory, named: str) -> None:
    ((severity, _),) = look(data, named)
    assert severity is Severity.PROBLEM


def test_a_home_that_was_never_used_stays_as_it_is(data: DataDirectory, home: Path) -> None:
    assert [severity for severity, _ in look(data, home)] == [Severity.OK] * 2
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]


def test_settings_that_lack_what_is_needed_are_told(data: DataDirectory, home: Path) -> None:
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    severity, text = look(data, home)[0]
    assert severity is Severity.WARNING
    assert "has no run_launcher, run_monitoring that would notice a run that is killed" in text
    (home / "dagster.yaml").write_text(
        _OURS.replace("run_monitoring:\n  enabled: true", "run_monitoring:\n  enabled: 0")
    )
    severity, text = look(data, home)[0]
    assert severity is Severity.WARNING
    assert "has no run_monitoring that" in text
    (home / "dagster.yaml").write_text(_OURS.replace("max_retries: 2", "max_retries: 3"))
    assert look(data, home)[0] == (
        Severity.OK,
        f"{home / 'dagster.yaml'} differs from this version's in run_retries",
    )


@pytest.mark.parametrize(
    ("cluster", "launcher"), [("celery", "WatchedCeleryRunLauncher"), ("kubernetes", "K8sRunLauncher")]
)
def test_a_clusters_settings_are_in_order(data: DataDirectory, home: Path, cluster: str, launcher: str) -> None:
    settings = (Path(__file__).parents[2] / "deploy" / cluster / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(settings.replace("storage:", "elsewhere:", 1))
    assert look(data, home)[0] == (
        Severity.OK,
        f"{home / 'dagster.yaml'} launches runs by {launcher}, and has them watched",
    )


@dg.op
def fails() -> None:
    raise dg.Failure("no")


@dg.job
def failing() -> None:
    fails()


def test_a_silent_daemon_and_failed_runs_are_told(data: DataDirectory, home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert not failing.execute_in_process(instance=instance, raise_on_error=False).success
        daemon, failed = look(data, home)[1:]
        assert daemon[0] is Severity.PROBLEM
        assert failed == (
            Severity.WARNING,
            "1 run failed within 24 h (failing); what they say is in the UI: Runs → Failed",
        )
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp(), kind, "a", []))
    assert look(data, home)[1] == (Severity.OK, "Dagster's daemon lives")


def test_what_cannot_be_looked_at_is_a_problem(
    data: DataDirectory, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "dagster.yaml").write_text("storage: {sqlite: {base_dir: {env: THERE_IS_NO_SUCH_VARIABLE}}}")
    ((_, findings),) = examine(case(data, environment={"DAGSTER_HOME": str(home)}), {"dagster": examine_dagster})
    assert findings[-1].severity is Severity.PROBLEM
    assert "could not be looked at" in findings[-1].text
    assert "THERE_IS_NO_SUCH_VARIABLE" in findings[-1].text
    assert "Traceback" not in capfd.readouterr().err
