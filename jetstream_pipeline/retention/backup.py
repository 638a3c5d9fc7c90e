"""Whether a copy of the lake holds what is to be deleted: shown by the copy itself, not believed."""

from __future__ import annotations

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.days import Hour, read_hours
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import exists, size
from jetstream_pipeline.storage.hive import hour_of, is_of_an_hour
from jetstream_pipeline.storage.lake import EVENTS
from jetstream_pipeline.storage.places import AnyPath, parse_place, shown
from jetstream_pipeline.storage.summary import SUMMARY_KEY, parse_summary, read_summary
from jetstream_pipeline.tables.build import DERIVED_FROM, derived_from


class Backup:
    """A copy of the lake below `place`, a path or an address. InvalidInput where it is none, or the lake itself."""

    def __init__(self, place: str, lake: AnyPath) -> None:
        self._place = parse_place(place)
        self._lake = lake
        if shown(self._place) == shown(lake):
            raise InvalidInput(f"{place} is the lake itself, no copy of it; name where the copy lies")

    def lacks(self, path: AnyPath) -> str | None:
        """Why the copy of a file of the lake does not count: it is not there, has other rows, or another size. None
        where it holds the same; of a day, in one file or in those of its hours. StorageError where the file itself
        cannot be read."""
        copy = self._place.joinpath(*path.parts[len(self._lake.parts) :])
        own = _said(path)
        if not all(identity for identity, _ in own.values()):
            return "its file does not say what it holds, so that no copy can be held against it"
        try:
            if exists(copy):
                same = _said(copy) == own and size(copy) == size(path)
            else:
                hours = {hour: copy.parent / f"hour={hour:02}" / copy.name for hour in own}
                same = all(_said(hours[hour]) == {hour: said} for hour, said in own.items())
        except StorageError:
            return f"there is no copy of it that can be read: {copy}"
        return None if same else f"the copy is another one: {copy}"


def _said(path: AnyPath) -> dict[int, tuple[str, int]]:
    """What a file says of the rows of its hour, or of each of its day: a window's content, or what a table was derived
    from (empty where it does not say); and the bytes of the hour's file."""
    is_window = path.stem == EVENTS
    if is_of_an_hour(path):
        identity = read_summary(path).content if is_window else derived_from(path)
        return {hour_of(path).start.hour: (identity, size(path))}
    return {hour: (_identity(said, path, is_window), said.bytes) for hour, said in read_hours(path).items()}


def _identity(said: Hour, path: AnyPath, is_window: bool) -> str:
    if is_window:
        return parse_summary(said.metadata.get(SUMMARY_KEY.decode(), ""), path).content
    return said.metadata.get(DERIVED_FROM, "")
