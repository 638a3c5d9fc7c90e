"""Every variable is read, checked, and told by its name when it is wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jetstream_pipeline.alerts.targets import Mail, Targets, Webhook
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.handles.endpoints import Endpoints
from jetstream_pipeline.jetstream.hosts import PUBLIC_HOSTS
from jetstream_pipeline.jetstream.transport import Transport, default_transport
from jetstream_pipeline.settings import MAIN_COLLECTIONS, Settings, described


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _, _ in described():
        monkeypatch.delenv(name, raising=False)


def test_without_variables_the_defaults_are_the_public_hosts_and_main_collections() -> None:
    settings = Settings.read()
    assert settings.data_dir == Path("data")
    assert (settings.hosts, settings.collections) == (PUBLIC_HOSTS, MAIN_COLLECTIONS)
    assert settings.alert_targets() == Targets()
    assert settings.zstd_dictionary is settings.first_hour is None
    assert settings.transport is default_transport()
    assert (settings.settle, settings.look_back) == (timedelta(minutes=5), timedelta(hours=36))
    assert settings.endpoints() == Endpoints("https://public.api.bsky.app", "https://plc.directory", None)


def test_a_home_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETSTREAM_DATA_DIR", "~/jetstream")
    monkeypatch.setenv("JETSTREAM_LAKE", "~/lake")
    settings = Settings.read()
    assert (settings.data.root, settings.data.lake.root) == (Path.home() / "jetstream", Path.home() / "lake")


def test_the_defaults_as_texts_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    without = Settings.read()
    for name, _, default in described():
        monkeypatch.setenv(name, default)
    assert Settings.read() == without


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "JETSTREAM_DATA_DIR": "/somewhere",
        "JETSTREAM_LAKE": "s3://bucket/prefix",
        "JETSTREAM_QUEUES": "postgresql://me:secret@db.example.org/lab",
        "JETSTREAM_HOSTS": "ws://127.0.0.1:6008, example.org ,",
        "JETSTREAM_COLLECTIONS": "app.bsky.graph.*",
        "JETSTREAM_FIRST_HOUR": "2026-02-03-04:00",
        "JETSTREAM_SETTLE_MINUTES": "7",
        "JETSTREAM_LOOK_BACK_HOURS": "48",
        "JETSTREAM_HOST_SKEW_SECONDS": "12",
        "JETSTREAM_KEEP_RUNS_DAYS": "30",
        "JETSTREAM_ZSTD_DICTIONARY": "/some/file",
        "JETSTREAM_TRANSPORT": "websockets",
        "JETSTREAM_API_TOKEN": "a-secret~token",
        "JETSTREAM_ALERT_WEBHOOK": "https://hooks.example.org/secret",
        "JETSTREAM_ALERT_RECIPIENTS": "a@example.org, b@example.org",
        "JETSTREAM_ALERT_SENDER": "c@example.org",
        "JETSTREAM_SMTP_SERVER": "smtps://me:secret@mail.example.org",
        "JETSTREAM_ICEBERG": "postgresql+psycopg://me:secret@db.example.org/lake",
        "JETSTREAM_APPVIEW": "http://127.0.0.1:3000/",
        "JETSTREAM_PLC_DIRECTORY": "http://localhost:3001",
        "JETSTREAM_DNS_SERVER": "[::1]:5353",
    }
    assert set(values) == {name for name, _, _ in described()}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    assert settings.data_dir == Path("/somewhere")
    assert settings.lake == "s3://bucket/prefix"
    assert settings.queues.get_secret_value() == "postgresql://me:secret@db.example.org/lab"
    assert settings.hosts == ("ws://127.0.0.1:6008", "example.org")
    assert settings.collections == ("app.bsky.graph.*",)
    assert settings.zstd_dictionary == Path("/some/file")
    assert settings.first_hour == datetime(2026, 2, 3, 4, tzinfo=UTC)
    assert (settings.settle, settings.host_skew) == (timedelta(minutes=7), timedelta(seconds=12))
    assert settings.look_back == timedelta(hours=48)
    assert settings.keep_runs_days == 30
    assert settings.transport is Transport.WEBSOCKETS
    assert settings.api_token.get_secret_value() == "a-secret~token"
    assert settings.iceberg.get_secret_value() == "postgresql+psycopg://me:secret@db.example.org/lake"
    assert settings.endpoints() == Endpoints("http://127.0.0.1:3000/", "http://localhost:3001", "[::1]:5353")
    recipients = ("a@example.org", "b@example.org")
    assert settings.alert_targets() == Targets(
        Webhook("https://hooks.example.org/secret"),
        Mail("smtps://me:secret@mail.example.org", "c@example.org", recipients),
    )
    assert "secret" not in repr(settings)


def test_the_first_hour_is_the_one_that_a_time_lies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETSTREAM_FIRST_HOUR", "2026-02-03T04:59:59+01:00")
    assert Settings.read().first_hour == datetime(2026, 2, 3, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JETSTREAM_LAKE", "ftp://bucket/prefix"),
        ("JETSTREAM_LAKE", "s3://"),
        ("JETSTREAM_LAKE", "s3://key:secret@bucket/prefix"),
        ("JETSTREAM_LAKE", "s3://bucket/a=b"),
        ("JETSTREAM_HOSTS", "http://a"),
        ("JETSTREAM_HOSTS", ","),
        ("JETSTREAM_COLLECTIONS", "posts"),
        ("JETSTREAM_FIRST_HOUR", "soon"),
        ("JETSTREAM_SETTLE_MINUTES", "90"),
        ("JETSTREAM_LOOK_BACK_HOURS", "-1"),
        ("JETSTREAM_LOOK_BACK_HOURS", "a day"),
        ("JETSTREAM_LOOK_BACK_HOURS", "90000"),
        ("JETSTREAM_APPVIEW", "public.api.bsky.app"),
        ("JETSTREAM_PLC_DIRECTORY", "https://plc.directory/did"),
        ("JETSTREAM_DNS_SERVER", "udp://9.9.9.9"),
        ("JETSTREAM_TRANSPORT", "http"),
        ("JETSTREAM_TRANSPORT", ""),
        ("JETSTREAM_ICEBERG", "my catalogue"),
        ("JETSTREAM_ICEBERG", "ftp://db.example.org/lake"),
        ("JETSTREAM_ICEBERG", "postgresql://db.example.org:port/lake"),
    ],
)
def test_a_wrong_value_is_told_in_one_line_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=f"^{name}: ") as refusal:
        Settings.read()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("token", ["a secret", "secret\n", "sécret"])
def test_a_token_that_no_header_carries_is_told_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("JETSTREAM_API_TOKEN", token)
    with pytest.raises(InvalidInput, match=r"^JETSTREAM_API_TOKEN: ") as refusal:
        Settings.read()
    assert "cret" not in str(refusal.value)
