"""What comes before a window or a table is replaced in an object store: where the object is a data file, the table is
given a copy of it, so that it shows something whole whatever happens then. On a disk there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.iceberg.catalogue import opened
from jetstream_pipeline.iceberg.commits import commit
from jetstream_pipeline.iceberg.contents import DATASETS, LakeFile, window_name
from jetstream_pipeline.iceberg.places import StorePlace, place_of
from jetstream_pipeline.iceberg.tables import find
from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.lake import ARCHIVE, EVENTS
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window


def make_way(
    setting: SecretStr, data: DataDirectory, stream: str, window: Window | str, datasets: Sequence[str] = DATASETS
) -> None:
    """Let a window, or an archive's segment by its name, be replaced.

    Where the catalogue cannot be used, it is replaced all the same: what follows tells of it.
    """
    if isinstance(data.lake.root, Path) or not setting.get_secret_value():
        return
    with suppress(PipelineError):
        standing = list(_standing(data, stream, window, datasets))
        if standing:
            _move(setting, data, stream, standing)


def _standing(
    data: DataDirectory, stream: str, window: Window | str, datasets: Sequence[str]
) -> Iterator[tuple[str, LakeFile]]:
    for dataset in datasets:
        if (dataset == ARCHIVE) is not isinstance(window, str):
            continue
        if isinstance(window, str):
            name, path = window, data.lake.segment_path(stream, window)
        elif dataset == EVENTS:
            name, path = window_name(window), data.lake.events_path(stream, window)
        else:
            name, path = window_name(window), data.lake.table_path(stream, dataset, window)
        assert not isinstance(path, Path)
        if said := objects.info(path):
            yield dataset, LakeFile(name, path, objects.tag(said), int(said["size"]))


def _move(setting: SecretStr, data: DataDirectory, stream: str, standing: Sequence[tuple[str, LakeFile]]) -> None:
    with opened(setting, data) as catalogue:
        for dataset, file in standing:
            place = place_of(data.lake, stream, dataset)
            assert isinstance(place, StorePlace)
            if table := find(catalogue, place, stream, dataset):
                commit(table, dataset, partial(place.moving, file))
