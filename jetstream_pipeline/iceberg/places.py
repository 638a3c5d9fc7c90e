"""Where a table lies, and under which name a file of the lake is its data file: one that never changes.

A window's file is replaced in place, a data file must not be. So each version of a file that a table has is a hard link
of its own: no byte is copied, and what was replaced or deleted in the lake lives on until no snapshot refers to it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.contents import LakeFile
from jetstream_pipeline.storage.files import make_directory, told, version
from jetstream_pipeline.storage.lake import Lake

_FOLDER = "_iceberg"
"""Beside the streams, whose names begin with a letter."""
_TOKEN_DIGITS = 16
_SCHEME = "file://"


class Place:
    """The folder of one data set's table."""

    def __init__(self, lake: Lake, stream: str, dataset: str) -> None:
        self.folder = lake.root.resolve() / _FOLDER / stream / dataset
        if "#" in str(self.folder):
            raise InvalidInput(f"{self.folder} has '#' in it, which an Iceberg table's address cannot have")

    @property
    def location(self) -> str:
        return f"{_SCHEME}{self.folder}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    def address(self, file: LakeFile) -> str | None:
        """What the present version of a file is called as a data file; None where it is gone."""
        path = self._link(file)
        return f"{_SCHEME}{path}" if path else None

    def path(self, address: str) -> Path:
        """Where a file of the table lies."""
        return Path(address.removeprefix(_SCHEME))

    def keep(self, file: LakeFile) -> str | None:
        """Make the present version of a file one that stays as it is, and return its address; None where it is gone.

        StorageError where the file system has no hard links.
        """
        make_directory(self.data)
        temporary = self.data / f".{secrets.token_hex(8)}.tmp"
        with told(temporary, "link"):
            try:
                os.link(file.path, temporary)
            except FileNotFoundError:
                return None
            try:
                # The file may have been replaced since it was looked at; the link has not.
                target = self._link(LakeFile(file.name, temporary))
                assert target
                os.replace(temporary, target)
            finally:
                # Where the target was the same file already, replacing it did nothing.
                temporary.unlink(missing_ok=True)
        return f"{_SCHEME}{target}"

    def _link(self, file: LakeFile) -> Path | None:
        found = version(file.path)
        if found is None:
            return None
        token = hashlib.sha256(repr(found).encode()).hexdigest()[:_TOKEN_DIGITS]
        return self.data / f"{file.name}-{token}.parquet"
