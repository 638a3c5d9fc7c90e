"""What the UI shows of windows and tables."""

import math
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest

from jetstream_pipeline.orchestration import metadata
from jetstream_pipeline.orchestration.metadata import (
    content_of,
    events_schema,
    figures,
    logged,
    materialization,
    table_lineage,
    table_schema,
    window_metadata,
)
from jetstream_pipeline.replay.reading import Progress
from jetstream_pipeline.storage.event_layout import FILE_SCHEMA
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline_tests.orchestration.driving import EVENTS, plain
from jetstream_pipeline_tests.quality.summaries import summary
from jetstream_pipeline_tests.windows import HOUR


def test_what_went_wrong_on_the_way_is_counted() -> None:
    said = summary(state=WindowState.UNPROVEN)
    proof = said.proof.model_copy(
        update={
            "connections": ("cut", "cut", "closed"),
            "repeats": 4,
            "resumptions": 5,
            "start_shown_by": None,
            "end_shown_by": None,
        }
    )
    said = said.model_copy(update={"proof": proof, "quarantined": 6, "repaired": 7, "seconds": 0.0})
    shown = plain(window_metadata(said))
    names = ("reconnections", "repeats", "resumptions", "quarantined", "repaired", "events_per_second", "state")
    assert {name: shown[name] for name in names} == {
        "reconnections": 2,
        "repeats": 4,
        "resumptions": 5,
        "quarantined": 6,
        "repaired": 7,
        "events_per_second": 0.0,
        "state": "unproven",
    }
    assert not shown.keys() & {"start_shown_by", "end_shown_by", "first_time", "last_time", "position", "path", "bytes"}


def test_the_lag_is_from_the_windows_end_to_its_being_whole() -> None:
    said = summary().model_copy(update={"finished_at": HOUR.end + timedelta(minutes=7, seconds=30)})
    assert plain(window_metadata(said))["lag_minutes"] == 7.5


def test_the_largest_collections_have_their_shares() -> None:
    counts = {f"app.bsky.feed.c{number}": number for number in range(1, 11)} | {"com.example.large": 100, "": 45}
    shown = plain(window_metadata(summary(events=200, collections=counts)))
    shares = {name: value for name, value in shown.items() if name.startswith("percent")}
    known = {f"percent feed.c{number}": number / 2 for number in (10, 9, 8, 7, 6, 5)}
    assert shares == known | {"percent com.example.large": 50.0}
    assert shown["counts_by_collection"] == counts


@pytest.mark.parametrize(("content", "known"), [("abc", "abc"), ("", "")])
def test_a_windows_content_is_told_and_known_again(content: str, known: str) -> None:
    told = materialization(EVENTS, HOUR, summary().model_copy(update={"content": content}), {})
    assert (told.asset_key, told.partition) == (EVENTS, HOUR.key)
    assert content_of(told) == known


def test_a_version_that_is_not_ours_is_no_content() -> None:
    assert content_of(dg.AssetMaterialization(EVENTS, tags={"dagster/data_version": "made up"})) == ""
    assert content_of(None) == ""


def test_figures_are_shown_as_what_they_are() -> None:
    values = {"flag": True, "count": 3, "rate": 1 / 3, "by": {"a": 1}, "list": [1], "text": "a", "other": HOUR}
    shown = figures(values)
    assert {name: type(value) for name, value in shown.items()} == {
        "flag": dg.BoolMetadataValue,
        "count": dg.IntMetadataValue,
        "rate": dg.FloatMetadataValue,
        "by": dg.JsonMetadataValue,
        "list": dg.JsonMetadataValue,
        "text": dg.TextMetadataValue,
        "other": dg.TextMetadataValue,
    }
    assert plain(shown) == values | {"rate": 0.3333, "other": str(HOUR)}


def test_the_columns_of_events_are_described() -> None:
    columns = events_schema().columns
    assert [column.name for column in columns] == FILE_SCHEMA.names
    assert all(column.description for column in columns)
    nullable = {column.name: column.constraints.nullable for column in columns}
    assert nullable == {field.name: field.nullable for field in FILE_SCHEMA}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_columns_of_a_table_are_described_and_come_from_events(table: metadata.Table) -> None:
    columns = table_schema(table).columns
    assert [column.name for column in columns] == [column.name for column in table.columns]
    assert all(column.description and column.type for column in columns)
    lineage = table_lineage(table, EVENTS).deps_by_column
    assert list(lineage) == [column.name for column in columns]
    assert {dep.asset_key for deps in lineage.values() for dep in deps} == {EVENTS}
    assert {dep.column_name for deps in lineage.values() for dep in deps} <= set(FILE_SCHEMA.names)


def test_a_column_names_what_it_is_taken_from() -> None:
    posts = next(table for table in TABLES if table.name == "posts")
    lineage = {
        name: [dep.column_name for dep in deps] for name, deps in table_lineage(posts, EVENTS).deps_by_column.items()
    }
    assert lineage["did"] == ["did"]
    assert lineage["text"] == ["record"]


def test_a_word_in_quotes_is_no_source() -> None:
    column = replace(TABLES[0].columns[0], sql="coalesce(rev, 'did and rkey')")
    table = replace(TABLES[0], columns=(column,))
    assert table_lineage(table, EVENTS).deps_by_column == {column.name: [dg.TableColumnDep(EVENTS, "rev")]}


def lines(instance: dg.DagsterInstance, *progress: Progress) -> list[tuple[int, str]]:
    """What a run that came so far logs, by level."""

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        report = logged(context, HOUR)
        for one in progress:
            report(one)

    @dg.job
    def job() -> None:
        step()

    run = job.execute_in_process(instance=instance).run_id
    found = [(entry.level, entry.user_message) for entry in instance.all_logs(run) if not entry.is_dagster_event]
    return [(level, text) for level, text in found if str(HOUR) in text]


def test_a_note_is_logged_at_once_and_progress_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    half = Progress(events=9000, position_us=(HOUR.start_us + HOUR.end_us) // 2, seconds=3.0)
    noted = Progress(events=1, position_us=HOUR.start_us, seconds=1.0, note="a host is down")
    monkeypatch.setattr(metadata, "_PROGRESS_SEC", math.inf)
    with dg.DagsterInstance.ephemeral() as instance:
        assert lines(instance, half, noted, half) == [(30, f"{HOUR}: a host is down")]
        monkeypatch.setattr(metadata, "_PROGRESS_SEC", 0.0)
        ((level, text),) = lines(instance, half)
    assert level == 20
    assert text.startswith(f"{HOUR}: 50%, 9,000 events, 3,000/s, ")
    assert text.endswith(" h behind now")
