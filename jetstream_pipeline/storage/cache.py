"""A folder of small files that may be deleted at any time: what was fetched once and can be fetched again."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

from jetstream_pipeline.storage.files import replacing, told


class Cache(MutableMapping[str, bytes]):
    """File names to contents. Each file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> bytes:
        path = self._folder / name
        with told(path, "read"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                raise KeyError(name) from None

    def __setitem__(self, name: str, content: bytes) -> None:
        with replacing(self._folder / name) as temporary:
            temporary.write_bytes(content)

    def __delitem__(self, name: str) -> None:
        path = self._folder / name
        with told(path, "delete"):
            try:
                path.unlink()
            except FileNotFoundError:
                raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        yield from sorted(path.name for path in self._folder.glob("[!.]*"))

    def __len__(self) -> int:
        return sum(1 for _ in self)
