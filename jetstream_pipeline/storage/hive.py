"""How the hour of a file is written in its path, so that DuckDB makes columns of it: date=YYYY-MM-DD/hour=HH."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.window import Window, hours

ANY_HOUR = "date=*/hour=*"
"""The pattern of every hour's folder."""


def hour_folder(moment: datetime) -> Path:
    """The folder of the hour that holds a time (UTC), below that of its data set."""
    return Path(f"date={moment:%Y-%m-%d}", f"hour={moment:%H}")


def is_of_an_hour(path: AnyPath) -> bool:
    """Whether a file lies in such a folder; other people's folders may be beside ours."""
    try:
        hour_of(path)
    except InvalidInput:
        return False
    return True


def hour_of(path: AnyPath) -> Window:
    """The hour of a file in such a folder; InvalidInput where that is none."""
    date, hour = path.parent.parent.name.removeprefix("date="), path.parent.name.removeprefix("hour=")
    return Window.from_key(f"{date}-{hour}:00")


def hours_of(day: date) -> list[Window]:
    """The windows of a day, UTC."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return list(hours(start, start + timedelta(days=1)))
