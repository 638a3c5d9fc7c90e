"""How findings write numbers, sizes, spans of time and lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from jetstream_pipeline.window import Window, spans

_SHOWN = 5
_DAY = timedelta(days=1)
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def size(number: float) -> str:
    """Bytes, in the largest unit that leaves a whole number."""
    place = 0
    while number >= 1000 and place < len(_UNITS) - 1:
        number, place = number / 1000, place + 1
    return f"{number:,.0f} {_UNITS[place]}" if place == 0 or number >= 100 else f"{number:,.1f} {_UNITS[place]}"


def span(time: timedelta) -> str:
    seconds = time.total_seconds()
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.0f} days"


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[object]) -> str:
    """The first few, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def some_windows(windows: Iterable[Window]) -> str:
    """The first few of the spans that windows make."""
    return some([_span(window) for window in spans(sorted(windows))])


def _span(window: Window) -> str:
    is_short = window.end - window.start < _DAY
    return str(window) if is_short else f"{moment(window.start)} – {moment(window.end)}"


def moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
