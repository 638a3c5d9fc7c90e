"""The archive as an asset: a segment is read once, again where its host has compacted it, and again where it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from jetstream_pipeline.simulator import Faults, Network, Simulator, running
from jetstream_pipeline.simulator.faults import Refuse
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.warehouse.database import querying
from jetstream_pipeline_tests.orchestration.driving import Driver, declared

NETWORK = Network(seed=2, rate=4)
START = datetime(2026, 7, 4, 12, tzinfo=UTC)
NAMES = ["seg_0000000000", "seg_0000000001", "seg_0000000002"]
SENSOR, JOB = "network_archive_segments", "network_archive"


def archiving(faults: Faults | None = None) -> Simulator:
    """A host with an archive of three segments."""
    return Simulator(
        NETWORK,
        clock=lambda: (START + timedelta(minutes=7)).timestamp(),
        archive_since=START,
        segment_minutes=2,
        faults=faults,
    )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def driver(data: DataDirectory, host: Simulator, instance: dg.DagsterInstance) -> Driver:
    return Driver(declared(data, host.address, archive=True, collections=[], report=False, tables=[]), instance)


def archived(data: DataDirectory) -> dict[str, list[int]]:
    """The sequence numbers of each segment, as people query them."""
    with querying(data) as connection:
        rows = connection.execute(
            "SELECT segment, list(seq ORDER BY seq) FROM archived_events GROUP BY segment"
        ).fetchall()
    return dict(rows)


def test_every_segment_is_read_once_and_once_more_when_it_is_compacted(
    data: DataDirectory, instance: dg.DagsterInstance
) -> None:
    with running(archiving()) as simulator:
        dagster = driver(data, simulator, instance)
        assert dagster.look(SENSOR) == []
        assert instance.get_dynamic_partitions("network_segments") == NAMES
        requests = dagster.look(SENSOR)
        assert [request.partition_key for request in requests] == NAMES
        assert all(dagster.run(JOB, request).success for request in requests)
        enumerated = [event.seq for event in simulator.archived_events(0, 2**62)]
        assert [seq for name in NAMES for seq in archived(data)[name]] == enumerated
        assert dagster.look(SENSOR) == []
        (told, *_) = dagster.materializations("archive")
        assert told.metadata["dagster/partition_row_count"].value == len(archived(data)[told.partition or ""])

        asyncio.run(simulator.compact(0.3))
        requests = dagster.look(SENSOR)
        assert [request.partition_key for request in requests] == NAMES
        assert all(dagster.run(JOB, request).success for request in requests)
        left = [event.seq for event in simulator.archived_events(0, 2**62)]
        assert len(left) < len(enumerated)
        assert [seq for name in NAMES for seq in archived(data)[name]] == left


def test_what_failed_is_asked_for_again_after_a_pause(
    data: DataDirectory, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(archiving(Faults(downloads=(Refuse(400, "{}"),)))) as simulator:
        dagster = driver(data, simulator, instance)
        assert dagster.look(SENSOR) == []
        first, *others = dagster.look(SENSOR)
        assert not dagster.run(JOB, first).success
        assert all(dagster.run(JOB, request).success for request in others)
        assert sorted(archived(data)) == NAMES[1:]
        assert dagster.look(SENSOR) == []
        monkeypatch.setattr("jetstream_pipeline.streams.catching_up._FIRST_PAUSE", timedelta(0))
        (again,) = dagster.look(SENSOR)
        assert (again.partition_key, again.tags["jetstream/attempt"]) == (first.partition_key, "2")
        assert dagster.run(JOB, again).success
        assert sorted(archived(data)) == NAMES


def test_a_host_without_an_archive_is_told(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    with running(Simulator(NETWORK)) as simulator:
        dagster = driver(data, simulator, instance)
        context = dg.build_sensor_context(instance=instance, definitions=dagster.definitions)
        tick = dagster.definitions.resolve_sensor_def(SENSOR).evaluate_tick(context)
    assert "none of these hosts has an archive" in (tick.skip_message or "")


def test_a_stream_has_no_such_asset_unless_it_says_so(data: DataDirectory, instance: dg.DagsterInstance) -> None:
    definitions = Driver(declared(data, "ws://127.0.0.1:9"), instance).definitions
    assert dg.AssetKey(["network", "archive"]) not in definitions.resolve_asset_graph().get_all_asset_keys()
