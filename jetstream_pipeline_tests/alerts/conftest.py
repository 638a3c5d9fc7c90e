"""Receivers, their certificate, and an environment without proxies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jetstream_pipeline_tests.alerts.receivers import Hook, Mailbox, hook, mailbox


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(name="hook")
def a_hook() -> Iterator[Hook]:
    with hook() as made:
        yield made


@pytest.fixture(name="mailbox")
def a_mailbox() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
