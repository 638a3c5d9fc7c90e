"""What a command says of an object store that it cannot use: one line that says what to do, and exit code 2."""

from __future__ import annotations

import sys

import pytest
import s3fs

from jetstream_pipeline.cli.main import cli, run
from jetstream_pipeline_tests.object_store import SECRET_KEY, ObjectStore

REPLAY = ("replay", "--start", "2026-07-04-14:00", "--end", "2026-07-04-15:00", "-i", "ws://127.0.0.1:9")
COMMANDS = (REPLAY, ("sql", "SELECT 1"), ("quarantine", "retry"))


@pytest.fixture(params=COMMANDS, ids=lambda command: command[0])
def command(request: pytest.FixtureRequest, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["jetstream-pipeline", *request.param])
    monkeypatch.setenv("JETSTREAM_LAKE", object_store.url)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command that `sys.argv` asks for ends with."""
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SystemExit) as ended:
        run(cli, "jetstream-pipeline")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert SECRET_KEY not in line
    return line


@pytest.mark.usefixtures("command")
def test_no_such_bucket(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JETSTREAM_LAKE", "s3://nobodys-bucket/lake")
    assert "there is no s3://nobodys-bucket that these credentials see; create it" in told(capsys)


@pytest.mark.usefixtures("command")
def test_credentials_that_the_store_does_not_know(
    object_store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with object_store.refusing():
        line = told(capsys)
    assert f"{object_store.url}" in line
    assert "the store denies it" in line
    assert "check the credentials" in line


@pytest.mark.usefixtures("command")
def test_no_credentials(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "no credentials for it were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in told(capsys)


@pytest.mark.usefixtures("command")
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "the store does not answer; check its address (AWS_ENDPOINT_URL) and the network" in told(capsys)


@pytest.mark.usefixtures("command")
def test_the_library_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setenv("JETSTREAM_LAKE", "gs://bucket/lake")
    assert "gs://bucket/lake needs gcsfs, which is not installed: pip install 'jetstream_pipeline[gcs]'" in told(capsys)


@pytest.mark.usefixtures("command")
def test_an_empty_lake_is_told(capsys: pytest.CaptureFixture[str], object_store: ObjectStore) -> None:
    if sys.argv[1] == "sql":
        assert f"there is no data in {object_store.url} yet; replay a window first" in told(capsys)
