"""Runs and the Iceberg catalogue: tables follow; one that cannot be reached fails no window, and is not hidden."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from jetstream_pipeline.iceberg.tables import shown_tables
from jetstream_pipeline.orchestration import failures
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.orchestration.driving import Driver, declared, hours_ago

FIRST, SECOND = (hours_ago(number) for number in (5, 4))


@pytest.fixture
def dagster(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setattr(failures, "_FIRST_PAUSE_SEC", 0.02)
    with running(Simulator(Network(rate=1))) as host, dg.DagsterInstance.ephemeral() as instance:
        setting = SecretStr(f"sqlite:///{data.root}/of/catalogue.db")
        yield Driver(declared(data, host.address, first=FIRST, tables=["posts"], iceberg=setting), instance)


def catalogue_check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (check,) = (one for one in result.get_asset_check_evaluations() if one.check_name == "iceberg")
    return check


def test_a_catalogue_that_cannot_be_reached_fails_no_window_and_is_brought_up_to_date_later(
    data: DataDirectory, dagster: Driver
) -> None:
    result = dagster.replay(FIRST)
    assert result.success
    check = catalogue_check(result)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "jetstream-pipeline iceberg sync" in (check.description or "")
    assert dagster.consume("tables") == {FIRST.key: False}
    assert data.lake.table_path("network", "posts", FIRST).exists()
    Path(data.root, "of").mkdir()
    assert catalogue_check(dagster.replay(SECOND)).passed
    assert dagster.consume("tables") == {SECOND.key: True}
    shown = {one.table: one.files for one in shown_tables(dagster.stream.settings.iceberg, data, "network")}
    assert shown == {"jetstream_network.events": 2, "jetstream_network.posts": 2}
