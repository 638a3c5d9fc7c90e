"""Putting data files into a table and taking others out, as one snapshot. Which ones, others say."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from jetstream_pipeline.iceberg.errors import CatalogueError
from jetstream_pipeline.iceberg.places import Difference
from jetstream_pipeline.iceberg.schema import columns

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction

_ATTEMPTS = 10
_PAUSE_SEC = 0.05
_READERS = 8


def commit(table: Table, dataset: str, find: Callable[[Mapping[str, DataFile]], Difference]) -> Difference:
    """Commit what `find` says, of the data files by address that the table holds, and return it; nothing where nothing
    differs. Where somebody else commits first, it is asked anew; CatalogueError where that does not end."""
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    for attempt in range(_ATTEMPTS):
        difference = find(_held(table))
        try:
            if difference.new or difference.old:
                _commit(table, difference, columns(dataset))
            return difference
        except (CommitFailedException, ValidationException):
            time.sleep(_PAUSE_SEC * 2**attempt * random.random())
            table.refresh()
    raise CatalogueError(f"{'.'.join(table.name())} is written by too many; run jetstream-pipeline iceberg sync")


def _held(table: Table) -> dict[str, DataFile]:
    """The data files of the snapshot that the table shows. A scan would leave out those without rows."""
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    entries = (entry for manifest in manifests for entry in manifest.fetch_manifest_entry(table.io))
    return {entry.data_file.file_path: entry.data_file for entry in entries}


def _commit(table: Table, difference: Difference, wanted: pa.Schema) -> None:
    with table.transaction() as transaction:
        _grow(transaction, wanted)
        # Only an append puts small manifests together.
        update = transaction.update_snapshot()
        with update.overwrite() if difference.old else update.merge_append() as snapshot:
            for data_file in difference.old:
                snapshot.delete_data_file(data_file)
            for data_file in _data_files(transaction, table, difference.new):
                snapshot.append_data_file(data_file)


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
