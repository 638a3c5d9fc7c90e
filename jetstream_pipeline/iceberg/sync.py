"""Bringing Iceberg tables up to date with the lake: what differs is found out and is one commit for each table.

The lake is the truth. Whatever was interrupted, whoever else does the same at the same time: the next one mends it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.catalogue import opened
from jetstream_pipeline.iceberg.commits import commit
from jetstream_pipeline.iceberg.contents import DATASETS, lake_files
from jetstream_pipeline.iceberg.places import Place, place_of
from jetstream_pipeline.iceberg.schema import columns, properties
from jetstream_pipeline.iceberg.tables import find, identifier
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Synced:
    """What a table was given and lost in one commit; the snapshot that it shows now, None where it shows none."""

    table: str
    added: int
    removed: int
    snapshot: int | None


def sync(
    setting: SecretStr,
    data: DataDirectory,
    stream: str,
    datasets: Sequence[str] = DATASETS,
    *,
    leaving: Iterable[AnyPath] = (),
) -> list[Synced]:
    """Make a stream's tables hold what the lake holds now; those that neither of them has are passed over.

    `leaving`: files of the lake that are about to be deleted, which tables are not to have any more. In an object store
    they are the tables' own: whoever deletes them says so first.

    InvalidInput where the lake has no such stream, or a table is another lake's, CatalogueError where the catalogue
    cannot be used, StorageError where the lake cannot be read.
    """
    if stream not in data.lake.streams():
        raise InvalidInput(f"there is no stream {stream} in {data.shown}; its tables are left as they are")
    gone = {str(path) for path in leaving}
    with opened(setting, data) as catalogue:
        synced = [_sync(catalogue, data, stream, dataset, gone) for dataset in datasets]
    return [one for one in synced if one]


def _sync(
    catalogue: Catalog, data: DataDirectory, stream: str, dataset: str, leaving: Collection[str]
) -> Synced | None:
    place = place_of(data.lake, stream, dataset)
    exists = any(lake_files(data.lake, stream, dataset))
    table = find(catalogue, place, stream, dataset)
    if table is None and not exists:
        return None
    table = table or _created(catalogue, place, stream, dataset)
    done = commit(table, dataset, lambda held: place.difference(lake_files(data.lake, stream, dataset), held, leaving))
    snapshot = table.current_snapshot()
    name = ".".join(identifier(stream, dataset))
    return Synced(name, len(done.new), len(done.old), snapshot.snapshot_id if snapshot else None)


def _created(catalogue: Catalog, place: Place, stream: str, dataset: str) -> Table:
    namespace, name = identifier(stream, dataset)
    try:
        catalogue.create_namespace_if_not_exists(namespace)
    except Exception:
        # Somebody else may have made it meanwhile; each kind of catalogue says so in its own way.
        if not catalogue.namespace_exists(namespace):
            raise
    return catalogue.create_table_if_not_exists(
        (namespace, name), columns(dataset), place.location, properties=properties(dataset)
    )
