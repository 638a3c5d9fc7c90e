"""What can go wrong between us and a host."""

from __future__ import annotations

from dataclasses import dataclass

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.window import from_us


@dataclass(frozen=True)
class Gap:
    """What a host no longer has: from the time asked for to where its history begins, in unix microseconds."""

    host: str
    asked_us: int
    begins_us: int

    def __str__(self) -> str:
        begins, asked = (f"{from_us(time_us):%Y-%m-%d %H:%M:%S}" for time_us in (self.begins_us, self.asked_us))
        return f"{self.host}'s history begins at {begins} UTC, after what was asked for ({asked})"


class JetstreamError(PipelineError):
    """A host could not be reached, or did not keep to the protocol."""

    passing = True


class Busy(JetstreamError):
    """The host is there and asks to be left alone for a while."""


class NotOffered(JetstreamError):
    """The host does not speak the wire that it was asked for."""


class RetiredDictionary(JetstreamError):
    """The host has another compression dictionary by now."""


class CursorTooOld(JetstreamError):
    """The host no longer has the sequence number that it was asked for."""


class HistoryMissing(JetstreamError):
    """The host no longer has what was asked for: its history begins later."""

    def __init__(self, gap: Gap) -> None:
        self.gap = gap
        super().__init__(str(gap))


class Stalled(JetstreamError):
    """A connection stays open and silent for so long that it is doubted."""

    def __init__(self, host: str, seconds: float, alive: bool) -> None:
        """`alive`: the host sends to somebody who asks for everything."""
        self.alive = alive
        others = "though it sends to others" if alive else "not even without a filter"
        super().__init__(f"{host} sent nothing for {seconds:g} s, {others}")


class Refused(InvalidInput):
    """The host understood the request and refused it: asking again will not help."""
