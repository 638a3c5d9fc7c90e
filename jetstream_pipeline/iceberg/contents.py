"""Which of the lake's files each table has, as they are now. Whoever puts another kind of file into the lake names it
here, and nowhere else of this room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.storage.hive import ANY_HOUR, hour_of, is_of_an_hour
from jetstream_pipeline.storage.lake import ARCHIVE, EVENTS, Lake
from jetstream_pipeline.tables.definitions import TABLES

DATASETS = (EVENTS, *(table.name for table in TABLES), ARCHIVE)
"""The data sets that can be tables. What hosts gave of windows that are not whole is none."""


@dataclass(frozen=True)
class LakeFile:
    """A file of a data set, and what it is called: its hour (2026-01-31-14) or its segment."""

    name: str
    path: Path


def lake_files(lake: Lake, stream: str, dataset: str) -> Iterator[LakeFile]:
    """Every file of a stream's data set, in any order."""
    if dataset == ARCHIVE:
        for path in lake.segments(stream):
            yield LakeFile(path.parent.name.removeprefix("segment="), path)
        return
    for path in (lake.root / stream / dataset).glob(f"{ANY_HOUR}/{dataset}.parquet"):
        if is_of_an_hour(path):
            yield LakeFile(f"{hour_of(path).start:%Y-%m-%d-%H}", path)
