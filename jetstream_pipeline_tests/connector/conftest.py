"""A client in a hurry."""

import pytest

from jetstream_pipeline.jetstream import client, connection, server, turns


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back to hosts that were down sooner than they would want."""
    monkeypatch.setattr(turns, "_MAX_PAUSE_SEC", 0.3)


@pytest.fixture
def impatient(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubt a silent host sooner than a person would want; on a busy machine, one that is only slow too."""
    monkeypatch.setattr(client, "_FIRST_STALL_SEC", 2.0)
    monkeypatch.setattr(client, "_MAX_STALL_SEC", 2.0)
    monkeypatch.setattr(connection, "_SILENCE_SEC", 1.4)
    monkeypatch.setattr(connection, "_ANSWER_SEC", 1.4)
    monkeypatch.setattr(server, "_SIGN_OF_LIFE_SEC", 2.0)
