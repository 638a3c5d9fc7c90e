"""Time: windows, and the microseconds that the network counts in. No clock is read here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jetstream_pipeline.errors import InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_DASHED = re.compile(r"^(\d{4}-\d{2}-\d{2})-(\d{2}:\d{2}(?::\d{2})?)$")

PARTITION_KEY_FORMAT = "%Y-%m-%d-%H:%M"


def to_us(moment: datetime) -> int:
    """Unix microseconds of an aware datetime, exactly (no float on the way)."""
    return span_us(moment - _EPOCH)


def span_us(span: timedelta) -> int:
    """A length of time in microseconds."""
    return span // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    """The UTC datetime of unix microseconds; ValueError outside of the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(microseconds=time_us)
    except OverflowError as error:
        raise ValueError(f"{time_us} microseconds lie outside of the years 1 to 9999") from error


def parse_time(text: str) -> datetime:
    """A time as people type it: `YYYY-MM-DD`, `YYYY-MM-DD-HH:MM[:SS]` or ISO 8601; UTC unless it says otherwise."""
    cleaned = _DASHED.sub(r"\1T\2", text.strip())
    try:
        moment = datetime.fromisoformat(cleaned)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text!r} is not a time; write 2026-01-31, 2026-01-31-14:00:00 or 2026-01-31T14:00:00Z (UTC)"
        ) from None
    if not 1970 <= moment.year < 9999:
        raise InvalidInput(f"{text!r} is not a time of this network; it began in 2022")
    return moment


@dataclass(frozen=True, order=True)
class Window:
    """A half-open interval `[start, end)` of witnessed time, UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a window's times carry a time zone")
        if self.start >= self.end:
            raise ValueError(f"a window ends after it starts: {self.start} to {self.end}")

    @classmethod
    def hour(cls, moment: datetime) -> Window:
        """The hour that holds `moment`."""
        start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return cls(start, start + _HOUR)

    @classmethod
    def from_key(cls, key: str) -> Window:
        """The hour of a partition key, `YYYY-MM-DD-HH:MM`."""
        try:
            moment = datetime.strptime(key, PARTITION_KEY_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            raise InvalidInput(f"{key!r} is not an hour's key; write 2026-01-31-14:00 (UTC)") from None
        if moment.minute:
            raise InvalidInput(f"{key!r} does not begin on the hour")
        return cls.hour(moment)

    @property
    def key(self) -> str:
        return self.start.strftime(PARTITION_KEY_FORMAT)

    @property
    def start_us(self) -> int:
        return to_us(self.start)

    @property
    def end_us(self) -> int:
        return to_us(self.end)

    @property
    def is_hour(self) -> bool:
        return self == Window.hour(self.start)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M}–{self.end:%H:%M} UTC"


def hours(start: datetime, end: datetime) -> Iterator[Window]:
    """The hourly windows of `[start, end)`, oldest first; InvalidInput unless both lie on the hour."""
    for name, moment in (("start", start), ("end", end)):
        if moment != Window.hour(moment).start:
            raise InvalidInput(f"{name} {moment:%Y-%m-%d %H:%M:%S} is not on the hour: windows are whole hours, UTC")
    if start >= end:
        raise InvalidInput(f"end {end:%Y-%m-%d %H:%M} is not after start {start:%Y-%m-%d %H:%M}")
    moment = start
    while moment < end:
        yield Window.hour(moment)
        moment += _HOUR


def spans(windows: Iterable[Window], most: int | None = None) -> list[Window]:
    """Windows in order, those that follow each other taken together: at most `most` of them in one span."""
    taken: list[tuple[Window, int]] = []
    for window in windows:
        last, count = taken[-1] if taken else (None, 0)
        if last and last.end == window.start and (most is None or count < most):
            taken[-1] = Window(last.start, window.end), count + 1
        else:
            taken.append((window, 1))
    return [span for span, _ in taken]
