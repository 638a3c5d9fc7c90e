"""Tables of a lake in an object store: the objects themselves, until one is to be replaced."""

from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl
import pytest

from jetstream_pipeline.iceberg.expire import expire
from jetstream_pipeline.iceberg.sync import sync
from jetstream_pipeline.iceberg.way import make_way
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline_tests.cli.commands import NEXT
from jetstream_pipeline_tests.iceberg.reading import SQLITE, table
from jetstream_pipeline_tests.object_store import ObjectStore
from jetstream_pipeline_tests.windows import HOUR, commit, store

ONE, TWO = '{"text":"one"}', '{"text":"two"}'


def put(data: DataDirectory, *texts: str) -> None:
    store(data, [commit(text, number=number) for number, text in enumerate(texts)])


def records(data: DataDirectory, options: Mapping[str, str], snapshot: int | None = None) -> list[str]:
    """As polars' own reader sees them, through its own library for object stores."""
    with table(data) as found:
        scan = pl.scan_iceberg(found, reader_override="native", snapshot_id=snapshot, storage_options=dict(options))
        return sorted(scan.collect()["record"])


@pytest.fixture
def options(object_store: ObjectStore) -> dict[str, str]:
    variables = object_store.variables
    return {
        "aws_endpoint_url": object_store.endpoint,
        "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
        "aws_region": variables["AWS_REGION"],
        "aws_allow_http": "true",
    }


def addresses(data: DataDirectory) -> list[str]:
    with table(data) as found:
        return sorted(task.file.file_path for task in found.scan().plan_files())


def test_the_objects_themselves_are_read_and_their_metadata_lies_beside_them(
    remote_data: DataDirectory, options: dict[str, str], object_store: ObjectStore
) -> None:
    put(remote_data, ONE, TWO)
    store(remote_data, [commit('{"text":"three"}', number=3)], NEXT)
    for one in TABLES[:1]:
        build_table(one, "network", HOUR, remote_data.lake)
    changed = {one.table: (one.added, one.removed) for one in sync(SQLITE, remote_data, "network")}
    assert changed == {"jetstream_network.events": (2, 0), "jetstream_network.posts": (1, 0)}
    assert records(remote_data, options) == [ONE, '{"text":"three"}', TWO]
    assert addresses(remote_data) == [str(remote_data.lake.events_path("network", one)) for one in (HOUR, NEXT)]
    assert [key for key in object_store.keys("lake/_iceberg/") if key.endswith(".parquet")] == []
    assert all(one.added == one.removed == 0 for one in sync(SQLITE, remote_data, "network", ["events"]))


def test_what_is_to_be_replaced_is_shown_until_its_successor_is(
    remote_data: DataDirectory, options: dict[str, str]
) -> None:
    put(remote_data, ONE)
    sync(SQLITE, remote_data, "network", ["events"])
    make_way(SQLITE, remote_data, "network", HOUR, ["events"])
    assert records(remote_data, options) == [ONE]
    assert "_iceberg" in addresses(remote_data)[0]
    # Replaying it failed: the copy is as good as the object.
    assert all(one.added == one.removed == 0 for one in sync(SQLITE, remote_data, "network", ["events"]))
    put(remote_data, ONE, TWO)
    # Whoever put it has died here.
    assert records(remote_data, options) == [ONE]
    with table(remote_data) as found:
        copied = found.current_snapshot()
    sync(SQLITE, remote_data, "network", ["events"])
    assert records(remote_data, options) == [ONE, TWO]
    assert addresses(remote_data) == [str(remote_data.lake.events_path("network", HOUR))]
    assert copied
    assert records(remote_data, options, copied.snapshot_id) == [ONE]


def test_what_was_replaced_without_asking_is_mended(remote_data: DataDirectory, options: dict[str, str]) -> None:
    put(remote_data, ONE)
    sync(SQLITE, remote_data, "network", ["events"])
    put(remote_data, ONE, TWO)
    (synced,) = sync(SQLITE, remote_data, "network", ["events"])
    assert (synced.added, synced.removed) == (1, 1)
    assert records(remote_data, options) == [ONE, TWO]
    with table(remote_data) as found:
        assert found.scan().count() == 2


def test_a_window_that_is_removed_is_removed_and_copies_are_deleted_when_nothing_shows_them(
    remote_data: DataDirectory, options: dict[str, str], object_store: ObjectStore
) -> None:
    put(remote_data, ONE)
    store(remote_data, [commit(TWO)], NEXT)
    sync(SQLITE, remote_data, "network", ["events"])
    make_way(SQLITE, remote_data, "network", HOUR, ["events"])
    path = remote_data.lake.events_path("network", NEXT)
    (synced,) = sync(SQLITE, remote_data, "network", ["events"], leaving=[path])
    assert (synced.added, synced.removed) == (0, 1)
    path.unlink()
    (synced,) = sync(SQLITE, remote_data, "network", ["events"])
    assert (synced.added, synced.removed) == (0, 0)
    assert records(remote_data, options) == [ONE]
    put(remote_data, TWO)
    sync(SQLITE, remote_data, "network", ["events"])
    expire(SQLITE, remote_data, "network", datetime.now(UTC), grace_sec=-2)
    assert [key for key in object_store.keys("lake/_iceberg/") if key.endswith(".parquet")] == []
    assert records(remote_data, options) == [TWO]
