"""Who opens Dagster's UI on the demonstration can see, launch and backfill windows there."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.browser.conftest import Demo
from jetstream_pipeline_tests.browser.dagster_ui import GROUP, DagsterUI

pytestmark = pytest.mark.timeout(600)

REPORT = "hourly_report"
ASSETS = ("events", *(table.name for table in TABLES), REPORT)


@dataclass(frozen=True)
class Launched:
    """What was launched from the dialog on `network/events`, and where the UI shows it."""

    windows: list[Window]
    address: str
    choices: str


@pytest.fixture(scope="module")
def backfill(ui: DagsterUI) -> Launched:
    """A backfill of windows that the demonstration left out. Dagster's daemon looks for one every 30 s."""
    return launched(ui, [hours_ago(number) for number in (9, 8, 7)], "Launch backfill")


@pytest.fixture(scope="module")
def run(ui: DagsterUI) -> Launched:
    return launched(ui, [hours_ago(6)], "Launch 1 run")


def hours_ago(number: int) -> Window:
    return Window.hour(datetime.now(UTC) - timedelta(hours=number))


def launched(ui: DagsterUI, windows: list[Window], button: str) -> Launched:
    dialog = ui.open_dialog(f"{GROUP}/events")
    choices = dialog.inner_text()
    first, last = windows[0].key, windows[-1].key
    ui.launch(dialog, first if first == last else f"[{first}...{last}]", len(windows), button)
    return Launched(windows, ui.page.url, choices)


def stored(demo: Demo, window: Window) -> int:
    """The number of events in the window's file."""
    return int(pq.read_metadata(demo.data.lake.events_path(GROUP, window)).num_rows)


def screenshot(name: str) -> Path | None:
    """Where a picture of this name belongs, if pictures are wanted."""
    folder = os.environ.get("JETSTREAM_TEST_SCREENSHOTS")
    return Path(folder, f"{name}.png") if folder else None


def open_materialization(ui: DagsterUI, asset: str, window: Window) -> None:
    """Its metadata in the asset's partitions view, and a picture of that, if pictures are wanted."""
    ui.open_partition(f"{GROUP}/{asset}", window.key)
    if path := screenshot(asset):
        ui.save_page(path)


def test_a_range_of_partitions_is_one_backfill(backfill: Launched) -> None:
    assert "/runs/b/" in backfill.address
    assert "Backfill only failed and missing partitions within selection" in backfill.choices


def test_the_graph_shows_the_events_and_all_that_is_made_of_them(ui: DagsterUI) -> None:
    ui.open_graph()
    for asset in ASSETS:
        ui.see(ui.node(asset))
    if path := screenshot("graph"):
        ui.save_graph(path, ASSETS)


def test_a_run_of_one_partition_succeeds(ui: DagsterUI, demo: Demo, run: Launched) -> None:
    ui.page.goto(run.address)
    assert ui.run_state() == "Success"
    assert stored(demo, run.windows[0]) > 0


def test_the_partition_shows_its_rows_and_that_it_is_complete(ui: DagsterUI, demo: Demo, run: Launched) -> None:
    ui.page.goto(run.address)
    assert ui.run_state() == "Success"
    open_materialization(ui, "events", run.windows[0])
    assert int(ui.metadata("dagster/partition_row_count")) == stored(demo, run.windows[0])
    assert ui.metadata("state") == "complete"


def test_the_report_of_a_window_shows_its_picture(ui: DagsterUI) -> None:
    open_materialization(ui, REPORT, hours_ago(3))
    shown = ui.open_markdown()
    ui.see_picture(shown.get_by_role("img", name="Events per minute"))
    if path := screenshot("report"):
        ui.save_dialog(path, shown)


def test_the_backfill_succeeds_and_its_windows_are_in_the_lake(ui: DagsterUI, demo: Demo, backfill: Launched) -> None:
    ui.page.goto(backfill.address)
    assert ui.backfill_state() == "Succeeded"
    assert all(stored(demo, window) > 0 for window in backfill.windows)
