"""A second host shows what the first one did not see, and the window gets it."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import dagster as dg
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration.build import stream_definitions
from jetstream_pipeline.orchestration.declaration import StreamDeclaration
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.verify import Report, verify_window
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator, Witness, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import querying
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.cli.commands import told
from jetstream_pipeline_tests.windows import rows_of

NETWORK = Network(rate=4)
WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
EVENTS = list(NETWORK.events(WINDOW.start_us, WINDOW.end_us))
AHEAD = Witness(offset=timedelta(seconds=12), jitter=timedelta(seconds=1), seq_offset=5_000_000, seed=1)
BEHIND = Witness(offset=timedelta(seconds=-14), jitter=timedelta(seconds=1), seq_offset=900_000, seed=2)
SURE = slice(350, -350)
"""Without the events so close to the window's edges that hosts' clocks put them on either side."""


def serving(stack: ExitStack, witness: Witness | None = None, **options: Any) -> Host:
    simulator = Simulator(NETWORK, witness=witness or Witness(), **options)
    return Host.parse(stack.enter_context(running(simulator)).address)


def replay(data: DataDirectory, host: Host) -> None:
    assert replay_window("network", Subscription(), WINDOW, hosts=[host], data=data).state is WindowState.COMPLETE


def verify(data: DataDirectory, *hosts: Host) -> Report:
    return verify_window("network", WINDOW, hosts=hosts, data=data)


def stored(data: DataDirectory) -> list[dict[str, Any]]:
    return rows_of(data.lake.events_path("network", WINDOW)).to_pylist()


def identity(event: SimulatedEvent) -> tuple[Any, ...]:
    return event.did, event.kind, event.rev, event.collection, event.rkey, event.operation, event.payload_json


def identities(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("did", "kind", "rev", "collection", "rkey", "operation", "payload")
    return [tuple(row[name] for name in names) for row in rows]


def test_a_host_that_is_blind_to_a_fifth_is_found_out_and_repaired(stack: ExitStack, data: DataDirectory) -> None:
    blind, seeing = serving(stack, blind=0.2), serving(stack, AHEAD)
    replay(data, blind)
    before = len(stored(data))
    report = verify(data, seeing)
    (host,) = report.hosts
    rows = stored(data)
    found = identities(rows)
    assert (report.summary.state, host.agreed, report.blind) == (WindowState.VERIFIED, True, (blind.name,))
    assert len(found) == len(set(found)) == before + report.repaired == report.summary.events
    assert not {identity(event) for event in EVENTS[SURE]} - set(found)
    lack = host.lacking_here
    assert lack
    assert lack.events == sum(row["host"] == seeing.name for row in rows) == report.repaired > 0.1 * len(EVENTS)
    assert sum(lack.by_collection.values()) <= lack.events
    missed = {row["did"] for row in rows if row["host"] == seeing.name}
    assert lack.repositories == len(missed)
    assert set(lack.by_repository) <= missed
    assert missed.isdisjoint(row["did"] for row in rows if row["host"] == blind.name)


def test_what_is_merged_in_keeps_each_repositorys_order_and_the_streams(stack: ExitStack, data: DataDirectory) -> None:
    replay(data, serving(stack, BEHIND, blind=0.3))
    verify(data, serving(stack, AHEAD))
    rows = stored(data)
    latest: dict[str, str] = {}
    for row in rows:
        if row["rev"]:
            assert latest.get(row["did"], "") <= row["rev"]
            latest[row["did"]] = row["rev"]
    places = {one: place for place, one in enumerate(identities(rows))}
    expected = [places[identity(event)] for event in EVENTS[SURE]]
    away = [abs(place - rank) for rank, place in enumerate(sorted(range(len(expected)), key=expected.__getitem__))]
    assert max(away) < 100


def test_hosts_that_differ_in_time_and_order_alone_agree(stack: ExitStack, data: DataDirectory) -> None:
    replay(data, serving(stack, BEHIND))
    before = stored(data)
    report = verify(data, serving(stack, AHEAD))
    assert (report.summary.state, report.repaired, report.blind) == (WindowState.VERIFIED, 0, ())
    assert stored(data) == before
    (verification,) = report.summary.verifications
    assert (verification.repaired, verification.lacking_there, verification.agreed) == (0, 0, True)


def test_a_second_host_that_is_blind_verifies_nothing_and_a_third_one_is_asked(
    stack: ExitStack, data: DataDirectory
) -> None:
    first, blind, third = serving(stack), serving(stack, AHEAD, blind=0.2), serving(stack, BEHIND)
    replay(data, first)
    before = stored(data)
    report = verify(data, blind)
    assert (report.summary.state, report.blind) == (WindowState.COMPLETE, (blind.name,))
    lacking = report.hosts[0].lacking_there
    assert lacking
    assert lacking.events > 0.1 * lacking.of
    assert stored(data) == before
    report = verify(data, blind, third)
    assert [host.agreed for host in report.hosts] == [False, True]
    assert report.summary.state is WindowState.VERIFIED
    assert len(report.summary.verifications) == 3


def test_a_window_is_not_held_against_its_own_host_or_one_that_lacks_its_start(
    stack: ExitStack, data: DataDirectory
) -> None:
    own = serving(stack)
    with pytest.raises(InvalidInput, match="no stream network"):
        verify(data, own)
    replay(data, own)
    with pytest.raises(InvalidInput, match="name another host"):
        verify(data, own)
    short = serving(stack, AHEAD, lookback=datetime.now(UTC) - WINDOW.start - timedelta(minutes=20))
    report = verify(data, own, short)
    assert report.summary.state is WindowState.COMPLETE
    assert "history begins" in str(report.hosts[0].note)
    dead = serving(nested := ExitStack())
    nested.close()
    with pytest.raises(JetstreamError, match="cannot reach"):
        verify(data, dead)


def run(data: DataDirectory, *hosts: Host) -> CompletedProcess[str]:
    span = ("--from", WINDOW.start.isoformat(), "--to", WINDOW.end.isoformat())
    return told(data.root, "verify", *span, *(word for host in hosts for word in ("-i", host.address)))


def test_the_command_says_what_each_host_lacks_and_derives_the_tables_anew(
    stack: ExitStack, data: DataDirectory
) -> None:
    blind, seeing = serving(stack, blind=0.2), serving(stack, AHEAD)
    replay(data, blind)
    for table in TABLES:
        build_table(table, "network", WINDOW, data.lake)
    done = run(data, seeing)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
    assert f"{seeing.name}: agrees" in done.stdout
    assert "app.bsky.feed.like" in done.stdout
    assert f"blind: {blind.name}" in done.stdout
    with querying(data) as connection:
        (counts,) = connection.execute(
            "SELECT (SELECT count(*) FROM likes), count(*) FILTER (collection = 'app.bsky.feed.like') FROM events"
        ).fetchall()
    assert counts[0] == counts[1]
    again = run(data, blind, seeing)
    assert again.returncode == 0
    refused = run(data, blind)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_the_job_verifies_a_partition_and_tells_what_it_found(stack: ExitStack, tmp_path: Path) -> None:
    blind, seeing = serving(stack, blind=0.2), serving(stack, AHEAD)
    data = DataDirectory(tmp_path)
    settings = Settings(data_dir=tmp_path, hosts=(blind.address, seeing.address))
    definitions = stream_definitions(StreamDeclaration(name="network").stream(settings, tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def("network_events").execute_in_process(partition_key=WINDOW.key, instance=instance)
        result = definitions.resolve_job_def("network_verification").execute_in_process(
            partition_key=WINDOW.key, instance=instance
        )
        events = instance.fetch_materializations(dg.AssetKey(["network", "events"]), limit=9).records
    assert result.success
    materialization = events[0].asset_materialization
    assert materialization
    metadata = {name: value.value for name, value in materialization.metadata.items()}
    assert (len(events), materialization.partition, metadata["state"]) == (2, WINDOW.key, "verified")
    assert metadata["repaired"] == metadata["repaired_now"] > 0
    assert metadata["blind_hosts"] == blind.name
    assert json.loads(json.dumps(metadata["compared_with"]))[0]["host"] == seeing.name
    assert metadata["dagster/partition_row_count"] == len(stored(data))
