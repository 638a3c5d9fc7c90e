"""Reading Parquet files of our own. What the system refuses and what is damaged are told apart: only the one passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from jetstream_pipeline.storage.errors import Damaged, StoreBusy
from jetstream_pipeline.storage.files import told, version
from jetstream_pipeline.storage.objects import Reader, tag
from jetstream_pipeline.storage.places import AnyPath

if TYPE_CHECKING:
    from upath import UPath


@contextmanager
def reading(path: AnyPath, remedy: str = "delete it and replay the window") -> Iterator[pq.ParquetFile]:
    """An open file, the checksums of whose pages are held against their bytes.

    StorageError where it cannot be read, Damaged, with the `remedy`, where it is not as it was written. An object that
    is replaced while it is open is an error that passes.
    """
    if not isinstance(path, Path):
        with _reading_object(path, remedy) as file:
            yield file
        return
    with told(path, "read"):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield file
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise _damaged(path, error, remedy) from error


@contextmanager
def _reading_object(path: UPath, remedy: str) -> Iterator[pq.ParquetFile]:
    """A column's pages are read in one request, not each by itself. What the store refuses is told by the reader."""
    with Reader(path) as source:
        try:
            with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True) as file:
                yield file
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            if version(path) != tag(source.details):
                raise StoreBusy(f"{path} was replaced while it was read; try again") from error
            raise _damaged(path, error, remedy) from error


def _damaged(path: AnyPath, error: Exception, remedy: str) -> Damaged:
    return Damaged(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}")


def bytes_by_column(path: AnyPath) -> dict[str, int]:
    """What a file's columns take on disk, in the file's order; StorageError where it cannot be read."""
    sizes: Counter[str] = Counter()
    with reading(path) as file:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            for place in range(group.num_columns):
                column = group.column(place)
                sizes[column.path_in_schema.split(".")[0]] += column.total_compressed_size
    return dict(sizes)
