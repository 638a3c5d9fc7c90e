"""Each hour's report is shown in the UI, and kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import dagster as dg
import pytest

from jetstream_pipeline.report.build import report_folder
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.orchestration.driving import Driver, declared, plain, told
from jetstream_pipeline_tests.windows import HOUR, commit, store

URI = "data:image/png;base64,"


@pytest.fixture
def dagster(data: DataDirectory) -> Iterator[Driver]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Driver(declared(data, first=HOUR, tables=[]), instance)


def test_a_report_is_shown_with_its_picture_and_kept(data: DataDirectory, dagster: Driver) -> None:
    store(data, [commit('{"text":"a","langs":["pt"]}', number=number) for number in range(5)])
    told(dagster.instance, HOUR)
    assert dagster.consume("hourly_report") == {HOUR.key: True}
    (materialization,) = dagster.materializations("hourly_report")
    assert isinstance(materialization.metadata["report"], dg.MarkdownMetadataValue)
    metadata = plain(materialization.metadata)
    folder = report_folder(data, "network", HOUR)
    assert (metadata["folder"], 0 <= metadata["seconds"] < 60) == (str(folder), True)
    assert sorted(path.name for path in folder.iterdir()) == ["report.json", "report.md", "report.png"]
    text = metadata["report"]
    begin = text.index(URI) + len(URI)
    picture = base64.b64decode(text[begin : text.index(")", begin)])
    assert picture == (folder / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert text.replace(URI + base64.b64encode(picture).decode(), "report.png") == (folder / "report.md").read_text()


def test_an_empty_window_has_a_report(data: DataDirectory, dagster: Driver) -> None:
    store(data, [])
    told(dagster.instance, HOUR)
    assert dagster.consume("hourly_report") == {HOUR.key: True}
    folder = report_folder(data, "network", HOUR)
    assert json.loads((folder / "report.json").read_text())["window"] == HOUR.key
    assert URI in plain(dagster.materializations("hourly_report")[0].metadata)["report"]
