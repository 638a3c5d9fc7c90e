"""A lake in an object store is what it is on a disk: the same windows, tables and views, put whole or not at all."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.retry import retry
from jetstream_pipeline.simulator import Network, Simulator, Witness, running
from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import parse_place
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline.tables.build import build_stale, build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import querying
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.object_store import ObjectStore
from jetstream_pipeline_tests.orchestration.driving import Driver, declared
from jetstream_pipeline_tests.replay.commands import COLUMNS, ended, said, started
from jetstream_pipeline_tests.windows import HOUR, commit, latest, store

NETWORK = Network(seed=3, rate=1)
WINDOW = latest(20)
NEXT = Window(WINDOW.end, WINDOW.end + timedelta(hours=1))
EVENTS = f"lake/network/events/date={WINDOW.start:%Y-%m-%d}/hour={WINDOW.start:%H}/events.parquet"
SOME_TABLES = [table for table in TABLES if table.name in ("posts", "accounts")]
VIEWS = {
    "events": "*",
    "posts": "*",
    "posts_current": "*",
    "windows": "stream, window_start, state, events, counts_by_kind, content, quarantined, fingerprint",
    "streams": "*",
    "quarantine": "*",
}


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    with running(Simulator(NETWORK)) as simulator:
        yield simulator


def rows(object_store: ObjectStore, window: Window = WINDOW) -> list[tuple[object, ...]]:
    """What a window's object holds, in stream order."""
    folder = f"date={window.start:%Y-%m-%d}/hour={window.start:%H}"
    content = object_store.keys()[f"lake/network/events/{folder}/events.parquet"]
    table = pq.ParquetFile(BytesIO(content)).read().sort_by("position")
    return list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))


def replayed(data: DataDirectory, host: Simulator) -> None:
    summary = replay_window("network", Subscription(), WINDOW, hosts=[Host.parse(host.address)], data=data)
    assert summary.state is WindowState.COMPLETE
    for table in SOME_TABLES:
        build_table(table, "network", WINDOW, data.lake)


def test_windows_tables_and_views_are_those_of_a_lake_on_a_disk(
    remote_data: DataDirectory, object_store: ObjectStore, host: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    local = DataDirectory(tmp_path_factory.mktemp("local"))
    for data in (local, remote_data):
        replayed(data, host)
    assert rows(object_store) == said(NETWORK.events(WINDOW.start_us, WINDOW.end_us))
    for table in SOME_TABLES:
        path = local.lake.table_path("network", table.name, WINDOW)
        content = object_store.keys()[f"lake/{path.relative_to(local.root / 'lake')}"]
        assert pq.ParquetFile(BytesIO(content)).read().equals(pq.ParquetFile(path).read())
    with querying(local) as here, querying(remote_data) as there:
        for view, columns in VIEWS.items():
            query = f"SELECT {columns} FROM {view} ORDER BY ALL"
            assert there.sql(query).fetchall() == here.sql(query).fetchall(), view
        ((file,),) = there.sql("SELECT file FROM windows").fetchall()
    assert file == f"s3://{object_store.bucket}/{EVENTS}"
    assert not (remote_data.root / "lake").exists()
    assert not (remote_data.root / "quarantine").exists()


def test_a_window_is_replaced_by_one_put(
    remote_data: DataDirectory, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    store(remote_data, [commit("{}")])
    asked: list[tuple[str, str]] = []
    call = s3fs.S3FileSystem._call_s3

    async def watched(self: s3fs.S3FileSystem, method: str, *args: object, **options: object) -> object:
        asked.append((method, str(options.get("Key"))))
        return await call(self, method, *args, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", watched)
    store(remote_data, [commit("{}"), commit("{}", number=1)])
    lake = remote_data.lake
    assert read_summary(lake.events_path("network", HOUR)).events == 2
    (name,) = object_store.keys("lake/network/events/")
    changes = [method for method, key in asked if key == name and not method.startswith(("head", "get", "list"))]
    assert changes == ["put_object"]


def test_a_replay_that_is_killed_at_the_put_leaves_nothing_or_all_and_is_gone_on_with(
    object_store: ObjectStore, host: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JETSTREAM_LAKE", object_store.url)
    for when in ("before", "after"):
        dying = f"""
import os, signal
from jetstream_pipeline.storage import objects
put = objects.put
def dying(source, target):
    if "/events/" not in str(target) or "{when}" == "after":
        put(source, target)
    if "/events/" in str(target):
        os.kill(os.getpid(), signal.SIGKILL)
objects.put = dying
"""
        killed = ended(started(tmp_path, host, WINDOW, "--no-tables", first=dying))
        assert killed.returncode == -signal.SIGKILL
        assert bool(object_store.keys(EVENTS)) == (when == "after")
        # Its lease would be waited for.
        objects.delete(parse_place(f"{object_store.url}/_leases/network.json"))
    assert rows(object_store) == said(NETWORK.events(WINDOW.start_us, WINDOW.end_us))
    data = DataDirectory(tmp_path, parse_place(object_store.url))
    summary = read_summary(data.lake.events_path("network", WINDOW))
    assert (summary.state, summary.proof.resumptions) == (WindowState.COMPLETE, 1)


def test_neighbours_that_two_machines_replay_at_once_share_and_lose_nothing(
    object_store: ObjectStore,
    host: Simulator,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second host sees everything twelve seconds later, and counts it otherwise."""
    monkeypatch.setenv("JETSTREAM_LAKE", object_store.url)
    machines = [tmp_path_factory.mktemp("machine") for _ in range(2)]
    witness = Witness(offset=timedelta(seconds=12), seq_offset=7_000_000, seed=1)
    with running(Simulator(NETWORK, witness=witness)) as late_host:
        runs = [
            started(machine, server, window, "--no-tables")
            for machine, server, window in zip(machines, (host, late_host), (WINDOW, NEXT), strict=True)
        ]
        for process in runs:
            done = ended(process)
            assert done.returncode == 0, done.stderr
    events = [row[2:] for window in (WINDOW, NEXT) for row in rows(object_store, window)]
    truth = [row[2:] for row in said(NETWORK.events(WINDOW.start_us, NEXT.end_us - 30_000_000))]
    assert len(set(events)) == len(events)
    assert set(truth) <= set(events)


def test_what_could_not_be_read_lies_with_the_lake_and_is_read_again_from_there(
    remote_data: DataDirectory, object_store: ObjectStore
) -> None:
    store(remote_data, [commit("{}"), b"none"])
    (kept,) = object_store.keys("lake/_quarantine/")
    assert kept.startswith("lake/_quarantine/network/date=")
    with querying(remote_data) as connection:
        assert connection.sql("SELECT stream, message FROM quarantine").fetchall() == [("network", b"none")]
    (retried,) = retry(remote_data, "network")
    assert (retried.messages, retried.understood, retried.note) == (1, 0, None)
    assert remote_data.lake.streams() == ["network"]


def test_a_window_that_the_store_does_not_list_yet_is_neither_replayed_nor_lost(
    remote_data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = Window.hour(WINDOW.start)
    store(remote_data, [commit("{}")], newest)
    build_table(TABLES[0], "network", newest, remote_data.lake)
    listed = objects.listed
    monkeypatch.setattr(objects, "listed", lambda folder, pattern: iter(()))
    monkeypatch.setattr(objects, "folders", lambda folder: [])
    monkeypatch.setattr(objects, "first", lambda folder, pattern: None)
    assert remote_data.lake.whole("network") == set()
    assert remote_data.lake.has("network", newest)
    stream = declared(remote_data, "ws://127.0.0.1:9", first=newest, look_back_hours=1, report=False)
    with dg.DagsterInstance.ephemeral() as instance:
        driver = Driver(stream, instance)
        asked = driver.look("network_catch_up")
        assert newest.key not in {request.partition_key for request in asked}
        told = instance.fetch_observations(dg.AssetKey(["network", "events"]), limit=100).records
        assert newest.key not in {record.partition_key for record in told}
        store(remote_data, [commit("{}"), commit('{"text":"new"}', number=1)], newest)
        (rebuilt,) = build_stale("network", newest, remote_data.lake)
        assert rebuilt.rows == 2
        monkeypatch.setattr(objects, "listed", listed)
        driver.look("network_catch_up")
        known = instance.fetch_materializations(dg.AssetKey(["network", "events"]), limit=100).records
        assert {record.partition_key for record in known} == {newest.key}
