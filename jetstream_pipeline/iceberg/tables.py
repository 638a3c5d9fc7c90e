"""Which tables a catalogue has of a stream, and what each shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.catalogue import opened
from jetstream_pipeline.iceberg.contents import DATASETS
from jetstream_pipeline.iceberg.places import Place, place_of
from jetstream_pipeline.storage.lake import ARCHIVE, check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import from_us

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

_NAMESPACE_PREFIX = "jetstream_"
_NAMES = {ARCHIVE: "archived_events"}
"""What tables are called that are not called as their data set: as the views are."""


def identifier(stream: str, dataset: str) -> tuple[str, str]:
    """The namespace and the name of a data set's table."""
    return f"{_NAMESPACE_PREFIX}{check_name(stream)}", _NAMES.get(dataset, dataset)


def find(catalogue: Catalog, place: Place, stream: str, dataset: str) -> Table | None:
    """A data set's table; None where there is none. InvalidInput where it is of another lake."""
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    name = identifier(stream, dataset)
    try:
        table = catalogue.load_table(name)
    except (NoSuchTableError, NoSuchNamespaceError):
        return None
    if table.location().rstrip("/") != place.location:
        raise InvalidInput(
            f"the catalogue's table {'.'.join(name)} lies in {table.location()}, this lake's would in "
            f"{place.location}; drop it if its lake was moved here, or name another catalogue"
        )
    return table


@dataclass(frozen=True)
class Shown:
    """What a table shows: its name, the files and rows of its present snapshot, when that was made, how many snapshots
    it has, and the address of its metadata, by which any engine can open it without the catalogue."""

    table: str
    files: int
    rows: int
    snapshots: int
    changed_at: datetime | None
    metadata: str


def shown_tables(setting: SecretStr, data: DataDirectory, stream: str) -> list[Shown]:
    """The tables of a stream. Errors as `opened`."""
    with opened(setting, data) as catalogue:
        return list(_shown(catalogue, data, stream))


def _shown(catalogue: Catalog, data: DataDirectory, stream: str) -> Iterator[Shown]:
    for dataset in DATASETS:
        table = find(catalogue, place_of(data.lake, stream, dataset), stream, dataset)
        if table is None:
            continue
        snapshot = table.current_snapshot()
        summary = snapshot.summary if snapshot else None
        yield Shown(
            ".".join(identifier(stream, dataset)),
            int(summary["total-data-files"] or 0) if summary else 0,
            int(summary["total-records"] or 0) if summary else 0,
            len(table.snapshots()),
            from_us(snapshot.timestamp_ms * 1000) if snapshot else None,
            table.metadata_location,
        )
