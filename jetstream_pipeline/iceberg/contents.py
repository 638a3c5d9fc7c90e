"""Which of the lake's files each table has, as they are now. Whoever puts another kind of file into the lake names it
here, and nowhere else of this room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.files import Version, exists, version
from jetstream_pipeline.storage.hive import ANY_HOUR, hour_of, is_of_an_hour
from jetstream_pipeline.storage.lake import ANY_DAY, ANY_SEGMENT, ARCHIVE, EVENTS, Lake, day_of
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window

DATASETS = (EVENTS, *(table.name for table in TABLES), ARCHIVE)
"""The data sets that can be tables. What hosts gave of windows that are not whole is none."""


@dataclass(frozen=True)
class LakeFile:
    """A file of a data set: what it is called (its hour, 2026-01-31-14, its day or its segment), where it is, which
    version of it that is, and its bytes."""

    name: str
    path: AnyPath
    version: Version
    size: int


def lake_files(lake: Lake, stream: str, dataset: str) -> Iterator[LakeFile]:
    """Every file of a stream's data set, in any order."""
    folder = lake.root / stream / dataset
    if dataset == ARCHIVE:
        for path, found, size in _listed(folder, f"{ANY_SEGMENT}/{EVENTS}.parquet"):
            yield LakeFile(path.parent.name.removeprefix("segment="), path, found, size)
        return
    days = lake.marked(stream)
    for path, found, size in _listed(folder, f"{ANY_HOUR}/{dataset}.parquet"):
        if is_of_an_hour(path) and (window := hour_of(path)).start.date() not in days:
            yield LakeFile(window_name(window), path, found, size)
    for path, found, size in _listed(folder, f"{ANY_DAY}/{dataset}.parquet") if days else ():
        if (day := day_of(path.parent.name)) in days:
            yield LakeFile(str(day), path, found, size)


def is_hidden(lake: Lake, stream: str, path: AnyPath) -> bool:
    """Whether a file does not count, should it stand: that of an hour whose day is one file, and the other way round.
    Asked of the mark itself, not of a listing."""
    if is_of_an_hour(path):
        return exists(lake.mark_path(stream, hour_of(path).start.date()))
    day = day_of(path.parent.name)
    return day is not None and not exists(lake.mark_path(stream, day))


def window_name(window: Window) -> str:
    return f"{window.start:%Y-%m-%d-%H}"


def _listed(folder: AnyPath, pattern: str) -> Iterator[tuple[AnyPath, Version, int]]:
    if not isinstance(folder, Path):
        for path, said in objects.listed(folder, pattern):
            yield path, objects.tag(said), int(said["size"])
        return
    for file in folder.glob(pattern):
        if found := version(file):
            yield file, found, file.stat().st_size
