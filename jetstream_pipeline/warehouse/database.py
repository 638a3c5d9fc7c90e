"""The warehouse's file: views only, replaced whole when a view changes, so that nobody who reads it is in the way."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.sql import literal
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import folders, locked, make_directory, replacing
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.querying import connected
from jetstream_pipeline.warehouse.views import views

_OLDEST_READER = "v1.0.0"
"""DuckDB releases from this one on can open the file."""

_VERSION_MACRO = "jetstream_views_version"


def refresh(data: DataDirectory) -> None:
    """Bring the warehouse's views up to date with what `data` holds; nothing is written when they are."""
    make_directory(data.root)
    # One writer at a time, so that the last to write has seen everything that is there.
    with locked(data.root / ".warehouse.lock"):
        script = _script(data)
        if _version(script) != _stored_version(data.warehouse):
            with replacing(data.warehouse) as temporary:
                _write(temporary, script, data.lake.root)


@contextmanager
def querying(data: DataDirectory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the views as they are now, whoever has the warehouse's file open. Times show in UTC.

    InvalidInput where there is no data yet.
    """
    if not (data.lake.streams() or folders(data.quarantine)):
        raise InvalidInput(
            f"there is no data in {data.shown} yet; replay a window first, or set JETSTREAM_DATA_DIR (and "
            "JETSTREAM_LAKE) to where it lies"
        )
    with tempfile.TemporaryDirectory(prefix="jetstream-") as folder:
        path = Path(folder, data.warehouse.name)
        _write(path, _script(data), data.lake.root)
        with connected(data.lake.root, path, read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection


def _script(data: DataDirectory) -> list[str]:
    statements = []
    for view in views(data):
        statements.append(f"CREATE VIEW {view.name} AS {view.query}")
        statements.append(f"COMMENT ON VIEW {view.name} IS {literal(view.description)}")
        for column, meaning in view.columns.items():
            statements.append(f'COMMENT ON COLUMN {view.name}."{column}" IS {literal(meaning)}')
    return statements


def _version(script: list[str]) -> str:
    return hashlib.sha256("\n".join(script).encode()).hexdigest()


def _write(path: Path, script: list[str], lake: AnyPath) -> None:
    try:
        with connected(lake) as connection:
            connection.execute(f"ATTACH {literal(path)} AS warehouse (STORAGE_VERSION {literal(_OLDEST_READER)})")
            connection.execute("USE warehouse")
            connection.execute(";\n".join(script))
            connection.execute(f"CREATE MACRO {_VERSION_MACRO}() AS {literal(_version(script))}")
            # Where there is no room for it, closing would say nothing and leave a file without views.
            connection.execute("CHECKPOINT warehouse")
    except duckdb.Error as error:
        raise StorageError(f"cannot make the views to query: {str(error).splitlines()[0]}") from error


def _stored_version(path: Path) -> str | None:
    """None where there is no file that can be read: then it is to be written anew."""
    try:
        with duckdb.connect(path, read_only=True) as connection:
            row = connection.execute(f"SELECT {_VERSION_MACRO}()").fetchone()
    except duckdb.Error:
        return None
    return row[0] if row else None
