"""What is found of windows and of a stream becomes the results of checks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from jetstream_pipeline.orchestration.checks import (
    _standing,
    check_keys,
    completeness,
    events_checks,
    stream_checks,
    window_checks,
)
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline.streams.catching_up import Plan
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.driving import EVENTS, Driver, declared, hours_ago, plain
from jetstream_pipeline_tests.quality.summaries import put, shifted, summary
from jetstream_pipeline_tests.windows import HOUR, commit, store

NEXT = shifted(1)
NAMES = ["complete", "continuity", "volume", "quarantine", "schema"]


def checked(data: DataDirectory, *windows: WindowSummary, **said: Any) -> dict[str, dg.AssetCheckResult]:
    """The checks of windows whose files stand."""
    results = window_checks(declared(data, **said), {said.window: said for said in windows})
    return {result.check_name or "": result for result in results}


def standing(data: DataDirectory, said: WindowSummary) -> WindowSummary:
    put(data.lake.events_path("network", said.window), said)
    return said


def failed(results: dict[str, dg.AssetCheckResult]) -> list[str]:
    return [name for name, result in results.items() if not result.passed]


def test_only_completeness_blocks() -> None:
    specs = events_checks(EVENTS)
    assert [(spec.name, spec.blocking) for spec in specs] == [(name, name == "complete") for name in NAMES]
    assert all(spec.description for spec in specs)
    assert check_keys(EVENTS) == [spec.key for spec in specs]


def test_a_run_is_complete_where_all_its_windows_are() -> None:
    result = completeness({HOUR: summary(), NEXT: summary(NEXT)}, {}, {})
    assert result.passed
    assert plain(result.metadata) == {"windows": 2, "failed": 0}
    assert completeness({HOUR: summary()}, {}, {}).description == "a test says so"


@pytest.mark.parametrize("whole", [{}, {NEXT: summary(NEXT)}])
def test_a_run_is_not_complete_where_a_window_is_not(whole: dict[Window, WindowSummary]) -> None:
    truncated = completeness(whole, {HOUR: summary(state=WindowState.TRUNCATED)}, {})
    broken = completeness(whole, {}, {HOUR: StorageError("no room")})
    assert not truncated.passed
    assert not broken.passed
    assert "truncated: a test says so" in (truncated.description or "")
    assert "no room" in (broken.description or "")
    assert truncated.severity is broken.severity is dg.AssetCheckSeverity.ERROR


def test_a_window_as_usual_passes(data: DataDirectory) -> None:
    results = checked(data, standing(data, summary(events=1000)))
    assert list(results) == NAMES[1:]
    assert failed(results) == []
    assert all(plain(result.metadata)["window"] == HOUR.key for result in results.values())
    assert plain(results["volume"].metadata)["events"] == 1000


def test_a_hole_between_neighbours_is_found_from_either_side(data: DataDirectory) -> None:
    early = standing(data, summary(events=36_000, last=HOUR.end - timedelta(minutes=20)))
    late = standing(data, summary(NEXT, events=36_000))
    for said in (early, late):
        assert failed(checked(data, said)) == ["continuity"]


def test_clocks_may_differ_by_what_the_setting_says(data: DataDirectory) -> None:
    part = timedelta(seconds=25)
    standing(data, summary(events=100, last=HOUR.end + part))
    late = standing(data, summary(NEXT, events=100, first=NEXT.start - part))
    assert failed(checked(data, late)) == ["continuity"]
    assert failed(checked(data, late, host_skew_seconds=300)) == []


def test_an_hour_unlike_those_of_the_days_before_is_found(data: DataDirectory) -> None:
    for days in range(1, 5):
        standing(data, summary(shifted(-24 * days), events=10_000))
    assert failed(checked(data, standing(data, summary(events=1000)))) == ["volume"]


def test_messages_that_cannot_be_read_are_found(data: DataDirectory) -> None:
    assert failed(checked(data, standing(data, summary(events=100, quarantined=50)))) == ["quarantine"]


def test_records_unlike_their_lexicon_are_found(data: DataDirectory) -> None:
    said = store(data, [commit('{"new":1}', number=number) for number in range(300)])
    results = checked(data, said)
    assert failed(results) == ["schema"]
    assert results["schema"].severity is dg.AssetCheckSeverity.WARN


def test_of_several_windows_those_that_fail_are_named(data: DataDirectory) -> None:
    several = [standing(data, summary(shifted(number), events=100)) for number in range(3)]
    several[1] = standing(data, summary(shifted(1), events=100, quarantined=50))
    result = checked(data, *several)["quarantine"]
    assert not result.passed
    assert (result.description or "").startswith(f"{NEXT}: ")
    assert str(HOUR) not in (result.description or "")
    assert plain(result.metadata) == {"windows": 3, "failed": 1}


def test_many_windows_that_fail_do_not_make_an_endless_text() -> None:
    windows = [shifted(number) for number in range(100)]
    result = completeness({}, {}, {window: StorageError("no room") for window in windows})
    assert (result.description or "").count("no room") == 20
    assert plain(result.metadata) == {"windows": 100, "failed": 100}


def test_lost_hours_are_told_in_ranges(data: DataDirectory) -> None:
    lost = tuple(shifted(number) for number in (0, 1, 2, *range(4, 54, 2)))
    now = datetime(2026, 7, 20, tzinfo=UTC)
    fresh, history = stream_checks(declared(data), EVENTS, Plan((HOUR,), (NEXT, HOUR), lost), now)
    text = history.description or ""
    assert (fresh.check_name, fresh.passed) == ("freshness", False)
    assert (history.check_name, history.passed) == ("history", False)
    assert "2026-07-04 14:00 to 2026-07-04 17:00, 2026-07-04 18:00 to 2026-07-04 19:00, " in text
    assert text.endswith(" and 6 more")
    assert plain(history.metadata) == {"lost": 28, "missing": 3}
    assert fresh.severity is history.severity is dg.AssetCheckSeverity.WARN


@pytest.mark.parametrize(("minutes", "fresh"), [(139, True), (140, False)])
def test_the_newest_hour_is_due_once_it_has_settled_as_the_setting_says(
    data: DataDirectory, minutes: int, fresh: bool
) -> None:
    standing(data, summary())
    now = HOUR.end + timedelta(minutes=minutes)
    freshness, _ = stream_checks(declared(data, settle_minutes=50), EVENTS, Plan((), (), ()), now)
    assert (freshness.check_name, freshness.passed) == ("freshness", fresh)


@pytest.mark.parametrize(("minutes", "missing"), [(68, ()), (69, (HOUR,))])
def test_an_hour_is_missing_once_it_has_settled_as_the_setting_says(
    data: DataDirectory, minutes: int, missing: tuple[Window, ...]
) -> None:
    stream = declared(data, first=HOUR, settle_minutes=59)
    assert _standing(stream, HOUR.end + timedelta(minutes=minutes)) == Plan((), missing, ())


def test_by_hand_hours_are_lost_that_lie_further_back_than_the_setting_says(data: DataDirectory) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        dagster = Driver(declared(data, first=hours_ago(20), look_back_hours=10), instance)
        history = dg.AssetSelection.checks(dg.AssetCheckKey(EVENTS, "history"))
        by_hand = dg.Definitions(jobs=[dg.define_asset_job("by_hand", selection=history)])
        definitions = dg.Definitions.merge(dagster.definitions, by_hand)
        assert definitions.resolve_job_def("by_hand").execute_in_process(instance=instance).success
        check = dagster.checks()["history"]
    assert not check.passed
    assert plain(check.metadata)["lost"] in (11, 12), "the clock may have struck meanwhile"


def test_a_window_that_cannot_be_looked_at_fails_its_check_and_no_more(data: DataDirectory) -> None:
    said = store(data, [commit("{}")])
    data.lake.events_path("network", HOUR).write_bytes(b"garbage")
    results = checked(data, said)
    assert failed(results) == ["schema"]
    assert "it could not be looked at" in (results["schema"].description or "")
