"""People are told of what failed and of what is lost: once, of all of it, and by each way on its own."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from jetstream_pipeline.alerts.errors import AlertError
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.alerts.receivers import Hook, Mailbox, hook, mailbox
from jetstream_pipeline_tests.orchestration.driving import EVENTS, Driver, declared, hours_ago
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


@pytest.mark.parametrize("tags", [{"jetstream/attempt": "2"}, {"dagster/will_retry": "true"}])
def test_repetitions_are_not_told(
    tags: dict[str, str], data: DataDirectory, hook: Hook, instance: dg.DagsterInstance
) -> None:
    window = hours_ago(3)
    driver = Driver(declared(data, first=window, alert_webhook=address(hook)), instance)
    driver.look(BY_WEBHOOK)
    driver.run("network_tables", dg.RunRequest(partition_key=window.key, tags=tags))
    driver.look(BY_WEBHOOK)
    assert told(hook) == []


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
