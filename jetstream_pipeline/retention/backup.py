"""Whether a copy of the lake holds what is to be deleted: shown by the copy itself, not believed."""

from __future__ import annotations

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import size
from jetstream_pipeline.storage.lake import EVENTS
from jetstream_pipeline.storage.places import AnyPath, parse_place, shown
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.tables.build import derived_from


class Backup:
    """A copy of the lake below `place`, a path or an address. InvalidInput where it is none, or the lake itself."""

    def __init__(self, place: str, lake: AnyPath) -> None:
        self._place = parse_place(place)
        self._lake = lake
        if shown(self._place) == shown(lake):
            raise InvalidInput(f"{place} is the lake itself, no copy of it; name where the copy lies")

    def lacks(self, path: AnyPath) -> str | None:
        """Why the copy of a file of the lake does not count: it is not there, has other rows, or another size. None
        where it holds the same. StorageError where the file itself cannot be read."""
        copy = self._place.joinpath(*path.parts[len(self._lake.parts) :])
        own = _identity(path)
        if not own:
            return "its file does not say what it holds, so that no copy can be held against it"
        try:
            same = _identity(copy) == own and size(copy) == size(path)
        except StorageError:
            return f"there is no copy of it that can be read: {copy}"
        return None if same else f"the copy is another one: {copy}"


def _identity(path: AnyPath) -> str:
    """What a file says of its rows: a window's content, or what a table was derived from; empty where it does not."""
    return read_summary(path).content if path.stem == EVENTS else derived_from(path)
