"""Bringing Iceberg tables up to date with the lake: what differs is found out and is one commit for each table.

The lake is the truth. Whatever was interrupted, whoever else does the same at the same time: the next one mends it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import SecretStr

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.catalogue import opened
from jetstream_pipeline.iceberg.contents import DATASETS, LakeFile, lake_files
from jetstream_pipeline.iceberg.errors import CatalogueError
from jetstream_pipeline.iceberg.places import Place
from jetstream_pipeline.iceberg.schema import columns, properties
from jetstream_pipeline.iceberg.tables import find, identifier
from jetstream_pipeline.storage.layout import DataDirectory

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction

_ATTEMPTS = 10
_PAUSE_SEC = 0.05
_READERS = 8


@dataclass(frozen=True)
class Synced:
    """What a table was given and lost in one commit; the snapshot that it shows now, None where it shows none."""

    table: str
    added: int
    removed: int
    snapshot: int | None


def sync(setting: SecretStr, data: DataDirectory, stream: str, datasets: Sequence[str] = DATASETS) -> list[Synced]:
    """Make a stream's tables hold what the lake holds now; those that neither of them has are passed over.

    InvalidInput where there is no lake, or a table is another lake's, CatalogueError where the catalogue cannot be
    used, StorageError where the lake cannot be read.
    """
    if not data.lake.root.is_dir():
        raise InvalidInput(f"there is no lake in {data.root}; nothing is taken out of tables because of that")
    with opened(setting, data) as catalogue:
        synced = [_sync(catalogue, data, stream, dataset) for dataset in datasets]
    return [one for one in synced if one]


def _sync(catalogue: Catalog, data: DataDirectory, stream: str, dataset: str) -> Synced | None:
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    place = Place(data.lake, stream, dataset)
    for attempt in range(_ATTEMPTS):
        table = _table(catalogue, place, stream, dataset, any(lake_files(data.lake, stream, dataset)))
        if table is None:
            return None
        held = _held(table)
        wanted = _wanted(place, lake_files(data.lake, stream, dataset))
        new = [file for address, file in wanted.items() if address not in held]
        old = [file for address, file in held.items() if address not in wanted]
        try:
            added = _commit(table, place, new, old, columns(dataset))
        except (CommitFailedException, ValidationException):
            time.sleep(_PAUSE_SEC * 2**attempt * random.random())
            continue
        snapshot = table.current_snapshot()
        return Synced(".".join(table.name()), added, len(old), snapshot.snapshot_id if snapshot else None)
    raise CatalogueError(f"{'.'.join(identifier(stream, dataset))} is written by so many at once; try again")


def _table(catalogue: Catalog, place: Place, stream: str, dataset: str, create: bool) -> Table | None:
    """The table, made where it is not there and is to be."""
    table = find(catalogue, place, stream, dataset)
    if table or not create:
        return table
    namespace, name = identifier(stream, dataset)
    catalogue.create_namespace_if_not_exists(namespace)
    return catalogue.create_table_if_not_exists(
        (namespace, name), columns(dataset), place.location, properties=properties(dataset)
    )


def _held(table: Table) -> dict[str, DataFile]:
    """The data files of the snapshot that the table shows, by address. A scan would leave out those without rows."""
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    entries = (entry for manifest in manifests for entry in manifest.fetch_manifest_entry(table.io))
    return {entry.data_file.file_path: entry.data_file for entry in entries}


def _wanted(place: Place, files: Iterable[LakeFile]) -> dict[str, LakeFile]:
    found = ((place.address(file), file) for file in files)
    return {address: file for address, file in found if address}


def _commit(table: Table, place: Place, new: Sequence[LakeFile], old: Sequence[DataFile], wanted: pa.Schema) -> int:
    """Put files into a table and take others out in one snapshot; how many were put. Nothing differs: no snapshot."""
    kept = [address for file in new if (address := place.keep(file))]
    if not (kept or old):
        return 0
    with table.transaction() as transaction:
        _grow(transaction, wanted)
        # Only an append puts small manifests together.
        update = transaction.update_snapshot()
        with update.overwrite() if old else update.merge_append() as snapshot:
            for data_file in old:
                snapshot.delete_data_file(data_file)
            for data_file in _data_files(transaction, table, kept):
                snapshot.append_data_file(data_file)
    return len(kept)


def _grow(transaction: Transaction, wanted: pa.Schema) -> None:
    """Give the table the columns that files have now; what lies in it already reads as null there."""
    from pyiceberg.table import TableProperties

    metadata = transaction.table_metadata
    if metadata.name_mapping() is None:
        # Our files have names, no field ids.
        mapping = metadata.schema().name_mapping.model_dump_json()
        transaction.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})
    lacking = [field for field in wanted if field.name not in metadata.schema().column_names]
    if lacking:
        with transaction.update_schema() as update:
            update.union_by_name(pa.schema(lacking))


def _data_files(transaction: Transaction, table: Table, addresses: Sequence[str]) -> Iterable[DataFile]:
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    metadata = transaction.table_metadata
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda address: parquet_file_to_data_file(table.io, metadata, address), addresses))
