"""People are told of what failed and of what is lost: once, of all of it, and by each way on its own."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from jetstream_pipeline.alerts.errors import AlertError
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration import alerts
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.alerts.receivers import Hook, Mailbox, hook, mailbox
from jetstream_pipeline_tests.orchestration.driving import EVENTS, RANGE, Driver, declared, hours_ago
from jetstream_pipeline_tests.windows import store

BY_WEBHOOK, BY_MAIL = "network_alerts_by_webhook", "network_alerts_by_mail"


@pytest.fixture(name="hook")
def a_hook() -> Iterator[Hook]:
    with hook() as made:
        yield made


@pytest.fixture(name="mailbox")
def a_mailbox() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def address(hook: Hook) -> str:
    return f"http://127.0.0.1:{hook.port}/told"


def told(hook: Hook) -> list[tuple[str, str | None, str]]:
    return [(body["subject"], body["window"], body["text"]) for body in hook.bodies]


def lost(instance: dg.DagsterInstance, window: Window) -> None:
    observation = dg.AssetObservation(
        EVENTS, partition=window.key, description="it is lost", tags={"jetstream/lost": "true"}
    )
    instance.report_runless_asset_event(observation)


def test_nobody_is_told_unless_somebody_is_named(data: DataDirectory) -> None:
    sensors = Driver(declared(data), dg.DagsterInstance.ephemeral()).definitions.sensors or []
    assert not [sensor.name for sensor in sensors if "alerts" in sensor.name]


def test_a_failed_window_is_told_once_with_what_happened(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    window = hours_ago(3)
    driver = Driver(declared(data, first=window, alert_webhook=address(hook)), instance)
    assert driver.look(BY_WEBHOOK) == []
    result = driver.run("network_tables", dg.RunRequest(partition_key=window.key))
    assert not result.success
    driver.look(BY_WEBHOOK)
    driver.look(BY_WEBHOOK)
    ((subject, key, text),) = told(hook)
    assert (subject, key) == (f"network_tables {window.key} failed", window.key)
    assert "the lake holds no whole window" in text
    assert hook.bodies[0]["run_id"] == result.run_id


def test_what_failed_before_the_first_look_is_no_news(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    window = hours_ago(3)
    driver = Driver(declared(data, first=window, alert_webhook=address(hook)), instance)
    driver.run("network_tables", dg.RunRequest(partition_key=window.key))
    driver.look(BY_WEBHOOK)
    assert told(hook) == []


def watched(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> Driver:
    """A stream whose alerts the hook gets, after the sensor's first look."""
    driver = Driver(declared(data, first=hours_ago(30), alert_webhook=address(hook)), instance)
    driver.look(BY_WEBHOOK)
    return driver


OURS = {"jetstream/stream": "network"}


def run_failed(driver: Driver, job: str, tags: dict[str, str], assets: Sequence[dg.AssetKey] = ()) -> None:
    run = driver.instance.get_run_by_id(driver.stands(job, "STARTED", tags, assets))
    assert run
    driver.instance.report_run_failed(run)


def failed(driver: Driver, window: Window, job: str = "network_events", **tags: str) -> None:
    run_failed(driver, job, {"dagster/partition": window.key, **OURS, **tags})


def range_failed(driver: Driver, first: Window, last: Window) -> None:
    run_failed(driver, "network_events", {**OURS, **dict(zip(RANGE, (first.key, last.key), strict=True))})


def assets_failed(driver: Driver, tags: dict[str, str], *assets: str) -> None:
    run_failed(driver, "__ASSET_JOB", tags, [dg.AssetKey(["network", asset]) for asset in assets])


def subjects_after_a_look(driver: Driver, hook: Hook) -> Sequence[str]:
    hook.bodies.clear()
    driver.look(BY_WEBHOOK)
    return hook.subjects


def test_a_run_that_dagster_tries_again_is_not_told(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver, window = watched(data, hook, instance), hours_ago(3)
    failed(driver, window, **{"dagster/will_retry": "true"})
    assert subjects_after_a_look(driver, hook) == []
    failed(driver, window)
    assert subjects_after_a_look(driver, hook) == [f"network_events {window.key} failed"]


def test_a_second_attempt_is_told_where_the_first_was_not(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver, window = watched(data, hook, instance), hours_ago(3)
    driver.stands("network_events", "CANCELED", {"dagster/partition": window.key, "jetstream/attempt": "1", **OURS})
    failed(driver, window, **{"jetstream/attempt": "2"})
    assert subjects_after_a_look(driver, hook) == [f"network_events {window.key} failed"]


def test_the_same_failure_is_told_again_only_after_a_day(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver, window, now = watched(data, hook, instance), hours_ago(3), datetime.now(UTC)
    said = []
    for hours in (1, 1.1, 24, 24.9, 25.1, 26):
        with freeze_time(now + timedelta(hours=hours)):
            failed(driver, window, **{"jetstream/attempt": "1"})
        said.append(len(subjects_after_a_look(driver, hook)))
    assert said == [1, 0, 0, 0, 1, 0]


def test_another_window_or_job_is_another_failure(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver = watched(data, hook, instance)
    for job in ("network_events", "network_tables"):
        for window in (hours_ago(4), hours_ago(3)):
            failed(driver, window, job)
    assert len(set(subjects_after_a_look(driver, hook))) == 4


def test_the_events_failed_whoever_asked_for_them(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver, window = watched(data, hook, instance), hours_ago(3)
    partition = {"dagster/partition": window.key}
    assets_failed(driver, partition, "events")
    failed(driver, window)
    assets_failed(driver, partition, "posts", "likes")
    assets_failed(driver, partition, "likes", "posts")
    assert subjects_after_a_look(driver, hook) == [
        f"network_events {window.key} failed",
        f"network/likes, network/posts {window.key} failed",
    ]


def test_a_range_is_told_as_one(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    driver, first, last = watched(data, hook, instance), hours_ago(5), hours_ago(3)
    range_failed(driver, first, last)
    range_failed(driver, last, last)
    failed(driver, last)
    driver.look(BY_WEBHOOK)
    assert [body["window"] for body in hook.bodies] == [f"{first.key} to {last.key}", last.key]
    assert hook.subjects == [f"network_events {window} failed" for window in (f"{first.key} to {last.key}", last.key)]


def test_what_is_remembered_has_an_end(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_REMEMBERED", 3)
    driver, now = watched(data, hook, instance), datetime.now(UTC)
    lengths = []
    for hours in range(1, 6):
        with freeze_time(now + timedelta(hours=hours)):
            failed(driver, hours_ago(20 - hours))
        driver.look(BY_WEBHOOK)
        lengths.append(len(driver.cursors[BY_WEBHOOK] or ""))
    with freeze_time(now + timedelta(hours=40)):
        failed(driver, hours_ago(10))
    driver.look(BY_WEBHOOK)
    lengths.append(len(driver.cursors[BY_WEBHOOK] or ""))
    assert lengths[0] < lengths[1] < lengths[2] == lengths[3] == lengths[4]
    assert lengths[5] == lengths[0]
    assert len(hook.bodies) == 6


def test_failures_of_one_moment_are_all_told(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    driver, windows = watched(data, hook, instance), [hours_ago(number) for number in range(30, 5, -1)]
    with freeze_time(datetime.now(UTC) + timedelta(minutes=1)):
        for window in windows:
            failed(driver, window)
    for _ in range(3):
        driver.look(BY_WEBHOOK)
    assert sorted(body["window"] for body in hook.bodies) == [window.key for window in windows]


def test_what_the_webhook_refuses_for_good_is_dropped_and_named(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    driver, windows = watched(data, hook, instance), [hours_ago(number) for number in (5, 4, 3)]
    for window in windows[:2]:
        failed(driver, window)
    hook.statuses = [400, 200]
    assert len(subjects_after_a_look(driver, hook)) == 2
    assert f"dropped for good: network_events {windows[0].key} failed" in capsys.readouterr().err
    lost(instance, windows[2])
    assert subjects_after_a_look(driver, hook) == [f"network {windows[2].key} is lost"]


def test_where_telling_ends_it_goes_on_at_the_next_look(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver, windows = watched(data, hook, instance), [hours_ago(number) for number in (5, 4, 3)]
    for window in windows[:2]:
        failed(driver, window)
    for window in windows:
        lost(instance, window)
    failures = [f"network_events {window.key} failed" for window in windows[:2]]
    losses = [f"network {window.key} is lost" for window in windows]
    hook.statuses = [200, 503]
    assert subjects_after_a_look(driver, hook) == failures
    with pytest.raises(AlertError):
        driver.look(BY_WEBHOOK)
    hook.statuses = [200, 200, 429]
    assert subjects_after_a_look(driver, hook) == [failures[1], *losses[:2]]
    hook.statuses = [200]
    assert subjects_after_a_look(driver, hook) == losses[1:]
    assert subjects_after_a_look(driver, hook) == []


def test_what_was_lost_before_the_first_look_is_no_news(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    windows = [hours_ago(number) for number in (5, 4, 3)]
    for window in windows[:2]:
        lost(instance, window)
    driver = watched(data, hook, instance)
    lost(instance, windows[2])
    driver.look(BY_WEBHOOK)
    assert [body["window"] for body in hook.bodies] == [windows[2].key]


def test_another_streams_failures_are_not_told(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    driver = Driver(declared(data, alert_webhook=address(hook)), instance)
    driver.look(BY_WEBHOOK)

    @dg.job(name="other_events", tags={"jetstream/stream": "other"}, executor_def=dg.in_process_executor)
    def other() -> None:
        @dg.op
        def fail() -> None:
            raise dg.Failure("not ours", allow_retries=False)

        fail()

    assert not other.execute_in_process(instance=instance, raise_on_error=False).success
    driver.look(BY_WEBHOOK)
    assert told(hook) == []


def test_an_alert_says_of_which_stream_what_happened_and_when(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver, window = watched(data, hook, instance), hours_ago(3)
    moment = datetime.now(UTC) + timedelta(hours=1)
    with freeze_time(moment):
        failed(driver, window)
        lost(instance, window)
    driver.look(BY_WEBHOOK)
    said = [(body["stream"], body["state"], datetime.fromisoformat(body["time"])) for body in hook.bodies]
    assert said == [("network", "failed", moment), ("network", "lost", moment)]


def test_a_run_that_died_before_any_step_is_told_with_what_dagster_says(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver = watched(data, hook, instance)
    failed(driver, hours_ago(3))
    driver.look(BY_WEBHOOK)
    ((_, _, text),) = told(hook)
    assert "marked as failed from outside the execution context" in text


def test_an_error_that_is_none_of_ours_is_told_as_it_is(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    driver = watched(data, hook, instance)

    @dg.job(name="network_other", tags=OURS, executor_def=dg.in_process_executor)
    def other() -> None:
        @dg.op
        def divide() -> None:
            raise ZeroDivisionError("there are none")

        divide()

    assert not other.execute_in_process(instance=instance, raise_on_error=False).success
    driver.look(BY_WEBHOOK)
    ((_, _, text),) = told(hook)
    assert text.splitlines() == ["network_other failed", "ZeroDivisionError: there are none"]


def test_a_verification_that_failed_is_told(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    driver, window = watched(data, hook, instance), hours_ago(3)
    assert not driver.run("network_verification", dg.RunRequest(partition_key=window.key)).success
    assert subjects_after_a_look(driver, hook) == [f"network_verification {window.key} failed"]


def test_a_backfill_with_a_wrong_plan_is_told(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    driver = watched(data, hook, instance)
    config = {"ops": {"network_plan": {"config": {"first": "soon"}}}}
    job = driver.definitions.resolve_job_def("network_backfill")
    assert not job.execute_in_process(run_config=config, instance=instance, raise_on_error=False).success
    assert subjects_after_a_look(driver, hook) == ["network_backfill failed"]


def test_many_failures_are_all_told_though_not_at_one_look(
    data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    windows = [Window.hour(hours_ago(30).start + timedelta(hours=number)) for number in range(24)]
    driver = Driver(declared(data, first=windows[0], alert_webhook=address(hook)), instance)
    driver.look(BY_WEBHOOK)
    for window in windows:
        driver.run("network_hourly_report", dg.RunRequest(partition_key=window.key))
    for _ in range(3):
        driver.look(BY_WEBHOOK)
    assert [key for _, key, _ in told(hook)] == [window.key for window in windows]


def test_a_lost_window_is_told_once(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    window = hours_ago(3)
    driver = Driver(declared(data, alert_webhook=address(hook)), instance)
    driver.look(BY_WEBHOOK)
    lost(instance, window)
    instance.report_runless_asset_event(
        dg.AssetObservation(EVENTS, partition=window.key, description="of another kind")
    )
    driver.look(BY_WEBHOOK)
    driver.look(BY_WEBHOOK)
    ((subject, key, text),) = told(hook)
    assert (subject, key) == (f"network {window.key} is lost", window.key)
    assert "it is lost" in text


def test_what_the_catch_up_finds_lost_is_told(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    first = hours_ago(40)
    driver = Driver(declared(data, first=first, alert_webhook=address(hook)), instance)
    for sensor in (BY_WEBHOOK, "network_catch_up", BY_WEBHOOK):
        driver.look(sensor)
    assert hook.subjects[:2] == [f"network {window.key} is lost" for window in (first, Window.hour(first.end))]
    assert "no host keeps events for so long" in hook.bodies[0]["text"]


def test_what_could_not_be_told_is_told_later_and_the_other_way_is_not_held_up(
    data: DataDirectory, hook: Hook, mailbox: Mailbox, instance: dg.DagsterInstance
) -> None:
    window = hours_ago(3)
    stream = declared(
        data,
        alert_webhook=address(hook),
        alert_recipients="me@example.org",
        alert_sender="pipeline@example.org",
        smtp_server=f"smtp://127.0.0.1:{mailbox.port}",
    )
    driver = Driver(stream, instance)
    for sensor in (BY_WEBHOOK, BY_MAIL):
        driver.look(sensor)
    lost(instance, window)
    hook.statuses = [503]
    with pytest.raises(AlertError):
        driver.look(BY_WEBHOOK)
    driver.look(BY_MAIL)
    driver.look(BY_MAIL)
    assert len(mailbox.messages) == 1
    hook.statuses = [200]
    hook.bodies.clear()
    driver.look(BY_WEBHOOK)
    assert [key for _, key, _ in told(hook)] == [window.key]


def test_wrong_targets_are_told_by_the_variables_name_and_show_no_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, alert_webhook="ftp://secret/path")
    with pytest.raises(InvalidInput, match="JETSTREAM_ALERT_") as told:
        settings.alert_targets()
    assert "secret" not in str(told.value)
    assert "secret" not in repr(settings)


def test_the_alerts_of_a_healthy_stream_are_none(data: DataDirectory, hook: Hook, instance: dg.DagsterInstance) -> None:
    window = hours_ago(3)
    store(data, [], window)
    driver = Driver(declared(data, first=window, alert_webhook=address(hook)), instance)
    driver.look(BY_WEBHOOK)
    assert driver.run("network_tables", dg.RunRequest(partition_key=window.key)).success
    driver.look(BY_WEBHOOK)
    assert told(hook) == []
