"""What stands of a stream's windows, and what it takes: the events with what goes with them, and the typed tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from jetstream_pipeline.retention.plan import Held
from jetstream_pipeline.storage import quarantine
from jetstream_pipeline.storage.files import Found, found
from jetstream_pipeline.storage.hive import hour_of, is_of_an_hour
from jetstream_pipeline.storage.lake import INCOMPLETE
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window


def events(data: DataDirectory, stream: str) -> list[Held]:
    """Each hour's messages that could not be read, its incomplete window, its whole one; oldest first."""
    messages = (file for file in found(data.quarantine_folder(stream), quarantine.FILES) if is_of_an_hour(file.path))
    own = (file for file in messages if quarantine.window_of(file.path))
    return _by_window([*own, *data.lake.listed(stream, INCOMPLETE), *data.lake.listed(stream)])


def tables(data: DataDirectory, stream: str) -> list[Held]:
    """Each hour's typed tables, oldest first."""
    return _by_window(file for table in TABLES for file in data.lake.listed(stream, table.name))


def _by_window(files: Iterable[Found]) -> list[Held]:
    by_window: dict[Window, list[Found]] = defaultdict(list)
    for file in files:
        by_window[hour_of(file.path)].append(file)
    return [
        Held(window, tuple(file.path for file in some), sum(file.size for file in some))
        for window, some in sorted(by_window.items())
    ]
