"""Connections of DuckDB that can read the lake, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from jetstream_pipeline.storage.places import AnyPath


@contextmanager
def connected(
    lake: AnyPath, database: Path | None = None, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a database, or to none, for queries of files at `lake` or below.

    duckdb.Error for what the body asks wrongly, StorageError where an object store is why it fails.
    """
    with duckdb.connect(database or ":memory:", read_only=read_only) as connection:
        if isinstance(lake, Path):
            yield connection
            return
        from jetstream_pipeline.storage.duckdb_files import Objects

        files = Objects(lake)
        connection.register_filesystem(files)
        try:
            yield connection
        except duckdb.Error as error:
            raise files.failure or error from None
