"""Reading Parquet files of our own. What the system refuses and what is damaged are told apart: only the one passes."""

from __future__ import annotations

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
