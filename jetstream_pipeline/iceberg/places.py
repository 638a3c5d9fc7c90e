"""Where a table lies, and under which name a file of the lake is its data file.

A window's file is replaced in place, a data file must not be. On a disk, each version of a file that a table has is a
hard link of its own: no byte is copied, and what was replaced or deleted in the lake lives on until no snapshot refers
to it. In an object store, which has no links, the object itself is the data file until it is to be replaced: then its
present version is copied first, within the store, and the table shows the copy (`way`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.contents import LakeFile, is_hidden
from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.files import Version, make_directory, told, version
from jetstream_pipeline.storage.lake import Lake

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from upath import UPath

_FOLDER = "_iceberg"
"""Beside the streams, whose names begin with a letter."""
_TOKEN_DIGITS = 16
_SCHEME = "file://"
_FSSPEC = "pyiceberg.io.fsspec.FsspecFileIO"


@dataclass(frozen=True)
class Difference:
    """What a table is to be given, by address, and what is to be taken out of it."""

    new: list[str]
    old: list[DataFile]


@dataclass(frozen=True)
class Leftover:
    """A file in a table's folder: its address, when it was put there (unix seconds), and the bytes that only it has."""

    address: str
    since: float
    size: int


class Place(ABC):
    """The folder of one data set's table."""

    location: str
    """Its address."""

    @abstractmethod
    def difference(
        self, files: Iterable[LakeFile], held: Mapping[str, DataFile], leaving: Collection[str] = ()
    ) -> Difference:
        """Between what the lake has, but for the addresses that are `leaving` it, and what a table holds. What is new
        will stay as it is for as long as it must."""

    @abstractmethod
    def files(self) -> Iterator[Leftover]:
        """What lies in the table's folder: links or copies of data, and metadata."""

    @abstractmethod
    def delete(self, address: str) -> None:
        """Where there is such a file in the table's folder."""


def place_of(lake: Lake, stream: str, dataset: str) -> Place:
    """Where a data set's table lies; InvalidInput where an address cannot lead there."""
    root = lake.root
    if isinstance(root, Path):
        return DiskPlace(root.resolve() / _FOLDER / stream / dataset)
    return StorePlace(root / _FOLDER / stream / dataset, lambda path: is_hidden(lake, stream, path))


def reading(lake: Lake) -> dict[str, str]:
    """How pyiceberg is to read and write there: by the library, and the credentials, by which the lake is."""
    return {} if isinstance(lake.root, Path) else {"py-io-impl": _FSSPEC}


class DiskPlace(Place):
    def __init__(self, folder: Path) -> None:
        if "#" in str(folder):
            raise InvalidInput(f"{folder} has '#' in it, which an Iceberg table's address cannot have")
        self._folder = folder
        self._data = folder / "data"
        self.location = f"{_SCHEME}{folder}"

    def difference(
        self, files: Iterable[LakeFile], held: Mapping[str, DataFile], leaving: Collection[str] = ()
    ) -> Difference:
        wanted = {self._address(file.name, file.version): file for file in files if str(file.path) not in leaving}
        links = (self._link(file) for address, file in wanted.items() if address not in held)
        return Difference(
            [link for link in links if link], [file for address, file in held.items() if address not in wanted]
        )

    def _address(self, name: str, found: Version) -> str:
        return f"{_SCHEME}{self._data / _versioned(name, found)}"

    def _link(self, file: LakeFile) -> str | None:
        """The address of a link to a file as it is now; None where it is gone. StorageError where links are none."""
        assert isinstance(file.path, Path)
        make_directory(self._data)
        temporary = self._data / f".{secrets.token_hex(8)}.tmp"
        with told(temporary, "link"):
            try:
                os.link(file.path, temporary)
            except FileNotFoundError:
                return None
            try:
                # The file may have been replaced since it was looked at; the link has not.
                linked = version(temporary)
                assert linked
                os.replace(temporary, self._data / _versioned(file.name, linked))
            finally:
                # Where the target was the same file already, replacing it did nothing.
                temporary.unlink(missing_ok=True)
        return self._address(file.name, linked)

    def files(self) -> Iterator[Leftover]:
        for folder in (self._data, self._folder / "metadata"):
            for path in folder.iterdir() if folder.is_dir() else ():
                with suppress(FileNotFoundError):
                    status = path.stat()
                    # Linking changes a file's entry, not its age.
                    yield Leftover(f"{_SCHEME}{path}", status.st_ctime, status.st_size if status.st_nlink == 1 else 0)

    def delete(self, address: str) -> None:
        path = Path(address.removeprefix(_SCHEME))
        with told(path, "delete"):
            path.unlink(missing_ok=True)


class StorePlace(Place):
    def __init__(self, folder: UPath, is_hidden: Callable[[UPath], bool]) -> None:
        """`is_hidden`: whether an object of the lake does not count, though it stands."""
        self._folder = folder
        self._is_hidden = is_hidden
        self._data = folder / "data"
        self.location = str(folder)

    def difference(
        self, files: Iterable[LakeFile], held: Mapping[str, DataFile], leaving: Collection[str] = ()
    ) -> Difference:
        new, kept, listed = [], set(), set()
        for file in files:
            address, copy = str(file.path), self._copy(file.name, file.version)
            listed.add(address)
            if address in leaving:
                continue
            if copy in held:
                kept.add(copy)
            elif address in held and held[address].file_size_in_bytes == file.size:
                kept.add(address)
            else:
                new.append(address)
        old = {address: file for address, file in held.items() if address not in kept}
        return Difference(
            new, [file for address, file in old.items() if address in listed or not self._is_there(address)]
        )

    def _is_there(self, address: str) -> bool:
        """Whether an object of the lake stands, and counts, that was not listed: listings may be late."""
        path = self._at(address)
        return not self._is_copy(address) and not self._is_hidden(path) and objects.info(path) is not None

    def _is_copy(self, address: str) -> bool:
        return address.startswith(f"{self._data}/")

    def moving(self, file: LakeFile, held: Mapping[str, DataFile]) -> Difference:
        """What puts a copy of an object in its place in the table, where it is a data file itself."""
        if (old := held.get(str(file.path))) is None:
            return Difference([], [])
        target = self._at(self._copy(file.name, file.version))
        with objects.told(target, "write"):
            target.fs.copy(self._at(old.file_path).path, target.path)
        return Difference([str(target)], [old])

    def _copy(self, name: str, found: Version) -> str:
        return str(self._data / _versioned(name, found))

    def files(self) -> Iterator[Leftover]:
        for folder in (self._data, self._folder / "metadata"):
            for path, said in objects.listed(folder, "*"):
                yield Leftover(str(path), objects.moment(said).timestamp(), int(said["size"]))

    def delete(self, address: str) -> None:
        objects.delete(self._at(address))

    def _at(self, address: str) -> UPath:
        from upath import UPath

        return UPath(address, **self._folder.storage_options)


def _versioned(name: str, found: Version) -> str:
    """What one version of a file is called."""
    token = hashlib.sha256(repr(found).encode()).hexdigest()[:_TOKEN_DIGITS]
    return f"{name}-{token}.parquet"
