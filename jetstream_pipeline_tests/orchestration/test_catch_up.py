"""A stream becomes whole by itself: what is missing is asked for, oldest first, and what is lost is said to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from jetstream_pipeline.orchestration import catch_up
from jetstream_pipeline.orchestration.catch_up import _Look, _State
from jetstream_pipeline.orchestration.partitions import hourly
from jetstream_pipeline.orchestration.under_way import windows_under_way
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.orchestration.driving import (
    EVENTS,
    Driver,
    declared,
    hours_ago,
    partitions_of,
    plain,
    questions,
)
from jetstream_pipeline_tests.orchestration.test_under_way import asset_backfill, job_backfill, of
from jetstream_pipeline_tests.quality.summaries import put, summary
from jetstream_pipeline_tests.windows import commit, store

JOB = "network_events"
SENSOR = "network_catch_up"
POOL = "jetstream_127_0_0_1_9"
NOW = datetime(2026, 7, 10, 12, 30, tzinfo=UTC)
"""The newest hour that is to be there by now is that of 11 o'clock."""
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def before(hours: int) -> Window:
    """The window that began so many whole hours before 12 o'clock."""
    return Window.hour(NOW - hours * HOUR)


@dataclass(frozen=True)
class Seen:
    """What one look brought."""

    asked: list[Window]
    keys: list[str]
    attempts: list[int]
    lost: list[Window]
    checks: dict[str, dg.AssetCheckEvaluation]


class CatchUp:
    """Looks at times of the test's choosing."""

    def __init__(self, dagster: Driver) -> None:
        self.dagster = dagster
        self.instance = dagster.instance
        self.data = dagster.stream.data
        self.cursor: str | None = None

    def look(self, now: datetime = NOW) -> Seen:
        state = _State.model_validate_json(self.cursor) if self.cursor else _State()
        under_way = windows_under_way(self.instance, self.dagster.definitions.get_repository_def(), EVENTS, JOB)
        look = _Look(self.dagster.stream, EVENTS, state, now, self.dagster.stream.first_hour())
        planned = look.plan(under_way)
        requests = list(look.requests(planned))
        losses = list(look.losses(planned, under_way))
        checks = {check.check_name: check for check in look.checks(planned)}
        self.cursor = look.state.model_dump_json()
        return Seen(
            [Window.from_key(request.partition_key or "") for request in requests],
            [request.run_key or "" for request in requests],
            [int(request.tags["jetstream/attempt"]) for request in requests],
            [Window.from_key(loss.partition or "") for loss in losses],
            checks,
        )

    def whole(self, *windows: Window) -> None:
        for window in windows:
            put(self.data.lake.events_path("network", window), summary(window))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def catching_up(data: DataDirectory, instance: dg.DagsterInstance, since: int, **said: Any) -> CatchUp:
    """A stream that began with the window of so many hours before 12 o'clock."""
    return CatchUp(Driver(declared(data, "ws://127.0.0.1:9", first=before(since), **said), instance))


def test_what_is_missing_is_asked_for_oldest_first_and_eight_at_once(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 20)
    stream.whole(before(19), before(15))
    seen = stream.look()
    assert seen.asked == [before(hours) for hours in (20, 18, 17, 16, 14, 13, 12, 11)]
    assert seen.attempts == [1] * 8
    for window in seen.asked[2:]:
        stream.dagster.stands(JOB, "QUEUED", of(window))
    stream.whole(*seen.asked[:2])
    assert stream.look(NOW + MINUTE).asked == [before(10), before(9)]


def test_the_hour_that_has_just_settled_is_left_to_the_schedule(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 1, settle_minutes=20)
    ended = before(1).end
    assert stream.look(ended + 29 * MINUTE).asked == []
    assert stream.look(ended + 30 * MINUTE).asked == [before(1)]


def test_what_somebody_is_at_already_is_not_asked_for_and_holds_nothing_up(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 12)
    dagster = stream.dagster
    dagster.stands(JOB, "QUEUED", of(before(12)))
    dagster.stands(JOB, "STARTED", of(before(11), before(10)))
    instance.add_backfill(asset_backfill(dagster, [before(9)], EVENTS))
    instance.add_backfill(job_backfill(JOB, [before(8)]))
    assert stream.look().asked == [before(number) for number in range(7, 0, -1)]


def test_what_failed_is_asked_for_again_after_pauses_that_grow_as_long_as_a_host_may_have_it(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 1)
    moments, attempts, keys = [], [], set()
    for minutes in range(0, 37 * 60, 5):
        seen = stream.look(NOW + minutes * MINUTE)
        if before(1) in seen.asked:
            place = seen.asked.index(before(1))
            moments.append(minutes)
            attempts.append(seen.attempts[place])
            keys.add(seen.keys[place])
        stream.whole(*(window for window in seen.asked if window != before(1)))
    pauses = [moments[at + 1] - moments[at] for at in range(len(moments) - 1)]
    assert pauses[:8] == [5, 5, 5, 10, 20, 35, 65, 130]
    assert set(pauses[8:]) == {240}
    assert attempts == list(range(1, len(moments) + 1))
    assert len(keys) == len(moments)


@pytest.mark.parametrize("look_back", [36, 72])
def test_what_no_host_has_any_more_is_forgotten_and_nothing_before_that(
    data: DataDirectory, instance: dg.DagsterInstance, look_back: int
) -> None:
    stream = catching_up(data, instance, 3, look_back_hours=look_back)
    stream.look()
    assert len(_State.model_validate_json(stream.cursor or "").asked) == 3
    assert len(stream.look(NOW + (look_back - 4) * HOUR).asked) == 8
    assert len(_State.model_validate_json(stream.cursor or "").asked) == 3 + 8
    assert len(stream.look(NOW + 100 * HOUR).asked) == 8
    assert len(_State.model_validate_json(stream.cursor or "").asked) == 8


def test_an_incomplete_window_is_missing(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    stream = catching_up(data, instance, 2)
    stream.whole(before(1))
    store(data, [commit("{}")], before(2), state=WindowState.TRUNCATED)
    assert data.lake.incomplete_path("network", before(2)).exists()
    assert stream.look().asked == [before(2)]


def test_a_window_that_vanishes_is_missing_again(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    stream = catching_up(data, instance, 1)
    assert stream.look().asked == [before(1)]
    stream.whole(before(1))
    assert stream.look(NOW + MINUTE).asked == []
    data.lake.events_path("network", before(1)).unlink()
    assert stream.look(NOW + 11 * MINUTE).asked == [before(1)]


def test_a_run_key_is_never_used_twice_also_when_the_cursor_is_lost(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 3)
    keys = []
    for minutes in range(0, 42, 7):
        stream.cursor = None
        seen = stream.look(NOW + minutes * MINUTE)
        assert len(seen.asked) == 3
        keys += seen.keys
    assert len(keys) == len(set(keys))


def test_what_no_host_has_any_more_is_said_to_be_lost_once(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    stream = catching_up(data, instance, 120, look_back_hours=10)
    stream.whole(before(50), *(before(hours) for hours in range(1, 12)))
    lost = [before(hours) for hours in range(120, 11, -1) if hours != 50]
    first, second, third, fourth = (stream.look(NOW + number * MINUTE) for number in range(4))
    assert first.lost + second.lost + third.lost == lost
    assert len(first.lost) == len(second.lost) == 50
    assert fourth.lost == []
    assert first.asked == []


def test_the_last_hour_within_look_back_is_asked_for_and_the_one_before_is_lost(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 12, look_back_hours=10)
    stream.whole(*(before(hours) for hours in range(1, 10)))
    seen = stream.look(NOW - 30 * MINUTE)
    assert (seen.asked, seen.lost) == ([before(10)], [before(12), before(11)])


def test_a_window_that_is_lost_while_a_run_is_at_it_is_said_to_be_so_afterwards(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 13, look_back_hours=10)
    run = stream.dagster.stands(JOB, "STARTED", of(before(12)))
    assert stream.look().lost == [before(13)]
    instance.report_run_failed(instance.get_run_by_id(run))  # type: ignore[arg-type]
    assert stream.look(NOW + MINUTE).lost == [before(12), before(11), before(10)]


def test_without_look_back_nothing_is_asked_for_and_nothing_lost(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    stream = catching_up(data, instance, 5, look_back_hours=0)
    seen = stream.look()
    assert (seen.asked, seen.lost) == ([], [])


def test_history_says_which_hours_are_lost(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    stream = catching_up(data, instance, 16, look_back_hours=10)
    stream.whole(before(13), *(before(hours) for hours in range(3, 11)))
    check = stream.look().checks["history"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert (check.description or "").endswith(
        "2026-07-09 20:00 to 2026-07-09 23:00, 2026-07-10 00:00 to 2026-07-10 02:00"
    )
    assert plain(check.metadata) == {"lost": 5, "missing": 2}
    stream.whole(*(before(hours) for hours in range(1, 17)))
    check = stream.look().checks["history"]
    assert (check.passed, check.description) == (True, "none is lost")
    assert plain(check.metadata) == {"lost": 0, "missing": 0}


def test_checks_are_made_when_they_change_and_every_hour(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    stream = catching_up(data, instance, 4)
    stream.whole(*(before(hours) for hours in (4, 3)))
    assert not stream.look().checks["freshness"].passed
    assert stream.look(NOW + MINUTE).checks == {}
    stream.whole(before(2), before(1))
    seen = stream.look(NOW + 2 * MINUTE)
    assert list(seen.checks) == ["freshness", "history"]
    assert seen.checks["freshness"].passed
    stream.whole(before(0))
    assert list(stream.look(NOW + 3 * MINUTE).checks) == ["freshness", "history"], "the newest window is another one"
    assert stream.look(NOW + 62 * MINUTE).checks == {}
    assert list(stream.look(NOW + 63 * MINUTE).checks) == ["freshness", "history"]
    assert stream.look(NOW + 64 * MINUTE).checks == {}


def test_the_sensor_tells_dagster_what_it_finds(
    data: DataDirectory, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "datetime", SimpleNamespace(now=lambda _: NOW))
    first = before(40)
    following = [Window.hour(first.start + number * HOUR) for number in range(13)]
    dagster = Driver(declared(data, "ws://127.0.0.1:9", first=first), instance)
    requests = dagster.look(SENSOR)
    asked = [request.partition_key for request in requests]
    lost = instance.fetch_observations(EVENTS, limit=100, ascending=True).records
    assert len(asked) == 8
    assert {request.tags["dagster/priority"] for request in requests} == {"1"}
    assert len(lost) == 5, "of the hour that just ends to be kept, a part is gone"
    assert [record.partition_key for record in lost] + asked == [window.key for window in following]
    observation = lost[0].event_log_entry.asset_observation
    assert observation
    assert plain(observation.metadata) == {"state": "lost"}
    checks = dagster.checks()
    assert sorted(name for name, check in checks.items() if not check.passed) == ["freshness", "history"]
    for request in requests:
        dagster.stands(JOB, "QUEUED", request.tags)
    assert dagster.look(SENSOR) == []
    assert len(instance.fetch_observations(EVENTS, limit=100).records) == len(lost)


def test_the_sensor_tells_no_window_lost_before_the_run_at_an_older_one_has_ended(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    first = hours_ago(40)
    dagster = Driver(declared(data, "ws://127.0.0.1:9", first=first), instance)
    run = dagster.stands(JOB, "STARTED", of(first))
    dagster.look(SENSOR)
    assert instance.fetch_observations(EVENTS, limit=100).records == []
    instance.report_run_failed(instance.get_run_by_id(run))  # type: ignore[arg-type]
    dagster.look(SENSOR)
    lost = instance.fetch_observations(EVENTS, limit=100, ascending=True).records
    assert [record.partition_key for record in lost[:2]] == [first.key, Window.hour(first.end).key]


def test_the_standing_checks_are_made_by_hand_too(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    first = hours_ago(40)
    dagster = Driver(declared(data, first=first), instance)
    keys = [dg.AssetCheckKey(EVENTS, name) for name in ("freshness", "history")]
    definitions = dg.Definitions.merge(
        dagster.definitions,
        dg.Definitions(jobs=[dg.define_asset_job("by_hand", selection=dg.AssetSelection.checks(*keys))]),
    )
    assert definitions.resolve_job_def("by_hand").execute_in_process(instance=instance).success
    assert {name: check.passed for name, check in dagster.checks().items()} == {"freshness": False, "history": False}
    for number in range(40):
        window = Window.hour(first.start + number * HOUR)
        put(data.lake.events_path("network", window), summary(window))
    assert definitions.resolve_job_def("by_hand").execute_in_process(instance=instance).success
    assert {name: check.passed for name, check in dagster.checks().items()} == {"freshness": True, "history": True}


def test_a_standing_check_is_made_alone(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    dagster = Driver(declared(data, first=hours_ago(4)), instance)
    one = dg.define_asset_job("one", selection=dg.AssetSelection.checks(dg.AssetCheckKey(EVENTS, "history")))
    definitions = dg.Definitions.merge(dagster.definitions, dg.Definitions(jobs=[one]))
    assert definitions.resolve_job_def("one").execute_in_process(instance=instance).success
    assert list(dagster.checks()) == ["history"]


def slots(instance: dg.DagsterInstance) -> dict[str, int]:
    return {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}


def test_the_pool_has_a_slot_for_each_host(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    hosts = ("ws://127.0.0.1:9", "ws://127.0.0.1:10", "ws://127.0.0.1:11")
    Driver(declared(data, *hosts), instance).look(SENSOR)
    assert slots(instance) == {POOL: 3}


def test_a_limit_that_somebody_has_set_stays(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    Driver(declared(data, "ws://127.0.0.1:9", "ws://127.0.0.1:10"), instance).look(SENSOR)
    assert slots(instance) == {POOL: 1}


def test_a_limit_that_nobody_has_set_is_raised(data: DataDirectory) -> None:
    pools = {"concurrency": {"pools": {"default_limit": 1}}}
    with dg.instance_for_test(overrides=pools) as instance:
        instance.event_log_storage.initialize_concurrency_limit_to_default(POOL)
        assert slots(instance) == {POOL: 1}
        Driver(declared(data, "ws://127.0.0.1:9", "ws://127.0.0.1:10"), instance).look(SENSOR)
        assert slots(instance) == {POOL: 2}


def test_windows_before_the_partitions_hold_up_nothing(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    """The lake reaches back further by now than when the definitions were loaded."""
    dagster = Driver(declared(data, "ws://127.0.0.1:9"), instance)
    older = hours_ago(24 * 7)
    put(data.lake.events_path("network", older), summary(older))
    keys = [request.partition_key or "" for request in dagster.look(SENSOR)]
    assert len(keys) == 8
    assert dagster.materializations() == []
    partitions = hourly(declared(data, "ws://127.0.0.1:9", start=f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"))
    assert all(partitions.has_partition_key(key) for key in keys)


def test_what_was_before_a_new_stream_is_not_lost(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    dagster = Driver(declared(data, "ws://127.0.0.1:9"), instance)
    requests = dagster.look(SENSOR)
    assert requests[0].partition_key == hours_ago(36).key or requests[0].partition_key == hours_ago(35).key
    assert dagster.checks()["history"].passed
    observations = instance.fetch_observations(EVENTS, limit=10).records
    assert observations == []


def test_a_machine_that_slept_for_ten_hours_is_whole_after_a_few_looks(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    windows = [hours_ago(number) for number in range(11, 1, -1)]
    with running(Simulator(Network(rate=1))) as simulator:
        dagster = Driver(declared(data, simulator.address, first=windows[0]), instance)
        asked: list[str] = []
        for _ in range(3):
            requests = dagster.look(SENSOR)
            asked += [request.partition_key or "" for request in requests]
            assert all(dagster.run(JOB, request).success for request in requests)
    assert asked[:10] == [window.key for window in windows]
    assert len(asked) == len(set(asked)) <= 12
    assert partitions_of(dagster.materializations())[:10] == asked[:10]
    assert dagster.checks()["freshness"].passed


def test_a_look_at_a_stream_that_is_whole_costs_as_little_however_long_it_is(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    first = hours_ago(30)
    dagster = Driver(declared(data, "ws://127.0.0.1:9", first=first), instance)
    for number in range(31):
        window = Window.hour(first.start + number * HOUR)
        put(data.lake.events_path("network", window), summary(window))
    assert dagster.look(SENSOR) == []
    assert len(dagster.materializations()) == 31
    with questions() as asked:
        assert dagster.look(SENSOR) == []
    assert len(asked) <= 3
    context = dg.build_sensor_context(instance=instance, definitions=dagster.definitions)
    tick = dagster.definitions.resolve_sensor_def(SENSOR).evaluate_tick(context)
    assert tick.skip_message == "nothing to ask for now; 0 windows wait, 0 are lost"
