"""Reading Parquet files of our own. What the system refuses and what is damaged are told apart: only the one passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jetstream_pipeline.storage.errors import Damaged
from jetstream_pipeline.storage.files import told


@contextmanager
def reading(path: Path, remedy: str = "delete it and replay the window") -> Iterator[pq.ParquetFile]:
    """An open file, the checksums of whose pages are held against their bytes.

    StorageError where it cannot be read, Damaged, with the `remedy`, where it is not as it was written.
    """
    with told(path, "read"):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield file
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            reason = " ".join(str(error).split())
            raise Damaged(f"{path} is damaged ({reason}); {remedy}") from error


def bytes_by_column(path: Path) -> dict[str, int]:
    """What a file's columns take on disk, in the file's order; StorageError where it cannot be read."""
    sizes: Counter[str] = Counter()
    with reading(path) as file:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            for place in range(group.num_columns):
                column = group.column(place)
                sizes[column.path_in_schema.split(".")[0]] += column.total_compressed_size
    return dict(sizes)
