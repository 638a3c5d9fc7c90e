"""`jetstream-pipeline iceberg` in this process: tables follow windows, and a catalogue that lags is told."""

import json

import pytest

from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.cli.commands import fill, grow, run
from jetstream_pipeline_tests.iceberg.reading import lake_rows
from jetstream_pipeline_tests.windows import latest

UNREACHABLE = "postgresql+psycopg://me:hunter2@127.0.0.1:1/lake?connect_timeout=2"


def rows(data: DataDirectory, *arguments: str) -> dict[str, dict[str, object]]:
    result = run(data, "iceberg", *arguments, "--json", JETSTREAM_ICEBERG="sqlite")
    assert result.exit_code == 0, result.output
    return {row["table"]: row for row in map(json.loads, result.stdout.splitlines())}


def test_tables_are_synced_listed_and_expired(data: DataDirectory) -> None:
    fill(data)
    assert rows(data, "sync")["jetstream_network.events"]["added"] == 2
    grow(data)
    assert rows(data, "sync", "--stream", "network")["jetstream_network.events"]["removed"] == 1
    assert rows(data, "list")["jetstream_network.events"]["rows"] == 3
    assert rows(data, "expire", "--older-than", "0")["jetstream_network.events"]["snapshots"] == 1
    shown = run(data, "iceberg", "list", JETSTREAM_ICEBERG="sqlite")
    assert "jetstream_network.posts" in shown.stdout


def test_without_a_catalogue_the_command_says_how_to_have_one(data: DataDirectory) -> None:
    result = run(data, "iceberg", "sync")
    assert result.exit_code != 0
    assert "JETSTREAM_ICEBERG=sqlite" in str(result.exception)


def test_what_replay_and_verify_put_into_the_lake_is_in_its_tables(data: DataDirectory) -> None:
    window = latest(4)
    with running(Simulator(Network(seed=3, rate=1))) as one, running(Simulator(Network(seed=3, rate=1))) as other:
        times = ["--start", window.key, "--end", f"{window.end:%Y-%m-%d-%H:%M}"]
        said = {"JETSTREAM_ICEBERG": "sqlite"}
        replayed = run(data, "replay", *times, "-i", one.address, "-c", "app.bsky.feed.post", **said)
        assert replayed.exit_code == 0, replayed.output
        tables = rows(data, "list")
        for name in ("events", "posts"):
            assert tables[f"jetstream_network.{name}"]["rows"] == lake_rows(data, name).num_rows != 0
        times = ["--from", window.key, "--to", f"{window.end:%Y-%m-%d-%H:%M}"]
        assert run(data, "verify", *times, "-i", other.address, **said).exit_code == 0
    assert rows(data, "list")["jetstream_network.events"]["snapshots"] == 2
    assert rows(data, "sync")["jetstream_network.events"]["added"] == 0


def test_a_window_stands_whose_catalogue_cannot_follow_and_that_is_told(data: DataDirectory) -> None:
    pytest.importorskip("psycopg")
    window = latest(4)
    with running(Simulator(Network(seed=3, rate=1))) as host:
        arguments = ["--start", window.key, "--end", f"{window.end:%Y-%m-%d-%H:%M}", "-i", host.address, "--no-tables"]
        result = run(data, "replay", *arguments, JETSTREAM_ICEBERG=UNREACHABLE)
    assert result.exit_code == 1
    assert " complete " in result.stdout
    (line,) = result.stderr.splitlines()
    assert "jetstream-pipeline iceberg sync" in line
    assert "hunter2" not in line
    assert rows(data, "sync")["jetstream_network.events"]["added"] == 1
