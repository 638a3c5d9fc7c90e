"""What stands of a stream's windows, and what it takes: the events with what goes with them, and the typed tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date

from jetstream_pipeline.retention.plan import Held
from jetstream_pipeline.storage import quarantine
from jetstream_pipeline.storage.files import Found, found
from jetstream_pipeline.storage.hive import hour_of, hours_of, is_of_an_hour
from jetstream_pipeline.storage.lake import EVENTS, INCOMPLETE, day_of
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window


def events(data: DataDirectory, stream: str) -> list[Held]:
    """Each hour's messages that could not be read, its incomplete window, its whole one; and days' whole ones that are
    one file. Oldest first."""
    messages = (file for file in found(data.quarantine_folder(stream), quarantine.FILES) if is_of_an_hour(file.path))
    own = [file for file in messages if quarantine.window_of(file.path)]
    incomplete = data.lake.listed(stream, INCOMPLETE)
    return _standing(data, stream, [EVENTS], [*own, *incomplete])


def tables(data: DataDirectory, stream: str) -> list[Held]:
    """Each hour's typed tables, and days' that are one file; oldest first."""
    return _standing(data, stream, [table.name for table in TABLES], [])


def _standing(data: DataDirectory, stream: str, datasets: Sequence[str], others: Sequence[Found]) -> list[Held]:
    lake, marked = data.lake, data.lake.marked(stream)
    of_hours, of_days = [*others], defaultdict[date, list[Found]](list)
    for name in datasets:
        for file in lake.listed(stream, name):
            day = hour_of(file.path).start.date()
            (of_days[day] if day in marked else of_hours).append(file)
        for file in lake.listed_days(stream, name):
            of_day = day_of(file.path.parent.name)
            if of_day and of_day in marked:
                of_days[of_day].append(file)
    days = [_held(Window(hours_of(day)[0].start, hours_of(day)[-1].end), some) for day, some in of_days.items()]
    return sorted([*_by_window(of_hours), *days], key=lambda one: (one.window.end, one.window.start))


def _held(window: Window, files: Sequence[Found]) -> Held:
    return Held(window, tuple(file.path for file in files), sum(file.size for file in files))


def _by_window(files: Iterable[Found]) -> list[Held]:
    by_window: dict[Window, list[Found]] = defaultdict(list)
    for file in files:
        by_window[hour_of(file.path)].append(file)
    return [_held(window, some) for window, some in by_window.items()]
