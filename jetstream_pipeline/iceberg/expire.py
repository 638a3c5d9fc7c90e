"""Forgetting old snapshots, and deleting what only they had: manifests, and the files that the lake has replaced or
deleted since."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr

from jetstream_pipeline.iceberg.catalogue import opened
from jetstream_pipeline.iceberg.contents import DATASETS
from jetstream_pipeline.iceberg.places import place_of
from jetstream_pipeline.iceberg.tables import find, identifier
from jetstream_pipeline.storage.layout import DataDirectory

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

_GRACE_SEC = 3600.0
"""No commit takes so long from its first file to the snapshot that refers to it."""


@dataclass(frozen=True)
class Expired:
    """What a table has forgotten: snapshots, files, and the bytes that those of its files took that nobody else has."""

    table: str
    snapshots: int
    files: int
    bytes: int


def expire(
    setting: SecretStr, data: DataDirectory, stream: str, before: datetime, grace_sec: float = _GRACE_SEC
) -> list[Expired]:
    """Forget the snapshots of a stream's tables that were made before a time, but for those that they show now or that
    have a name, and delete the files that no other snapshot has. `grace_sec`: files younger than that are left alone,
    as a commit under way may be about to refer to them.

    Errors as `opened`; StorageError where a file cannot be deleted.
    """
    with opened(setting, data) as catalogue:
        expired = (_expire(catalogue, data, stream, dataset, before, grace_sec) for dataset in DATASETS)
        return [one for one in expired if one]


def _expire(
    catalogue: Catalog, data: DataDirectory, stream: str, dataset: str, before: datetime, grace_sec: float
) -> Expired | None:
    place = place_of(data.lake, stream, dataset)
    table = find(catalogue, place, stream, dataset)
    if table is None:
        return None
    had = len(table.snapshots())
    if any(snapshot.timestamp_ms < before.timestamp() * 1000 for snapshot in table.snapshots()):
        table.maintenance.expire_snapshots().older_than(before).commit()
    until = time.time() - grace_sec
    table.refresh()
    kept = set(_referred(table))
    files = size = 0
    for leftover in place.files():
        if leftover.address not in kept and leftover.since < until:
            place.delete(leftover.address)
            files += 1
            size += leftover.size
    return Expired(".".join(identifier(stream, dataset)), had - len(table.snapshots()), files, size)


def _referred(table: Table) -> Iterator[str]:
    """The address of every file that a snapshot of the table, or its history, refers to."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    # What other engines have counted of it.
    yield from (file.statistics_path for file in table.metadata.statistics)
    yield from (file.statistics_path for file in table.metadata.partition_statistics)
    seen = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                yield manifest.manifest_path
                for entry in manifest.fetch_manifest_entry(table.io):
                    yield entry.data_file.file_path
