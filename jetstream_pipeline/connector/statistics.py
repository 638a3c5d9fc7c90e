"""What a connector's run has to say of itself, while it goes on and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Progress:
    """How far a run has come. `note` is what one would want to know at once: how a connection ended."""

    records: int
    bytes_received: int
    reconnections: int
    seconds: float
    position_us: int
    """How far the stream has come, in unix microseconds; 0 before anything came."""
    note: str | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Events by kind."""
    messages: int = 0
    """Everything that hosts sent, repeats included."""
    repeats: int = 0
    rejected: int = 0
    """Messages that could not be read."""


class Statistics(BaseModel):
    """The figures of a finished run; also by name, as of a mapping: `statistics["records_stored"]`."""

    model_config = ConfigDict(frozen=True)

    records_stored: int
    """Events added to the queue, or handed to the callback where there is no queue."""
    messages_received: int
    """Everything that hosts sent, repeats included."""
    total_time: float
    """Seconds."""
    records_per_second: float
    collections: dict[str, int]
    """Commits by collection."""
    target_reached: bool
    """Whether `target_count` events came."""
    end_cursor_reached: bool
    """Whether the stream reached `end_timestamp`."""
    latest_cursor: int | None
    """Where to go on, in unix microseconds: the time of the last event stored."""
    current_date: str | None
    """The day (UTC, YYYY-MM-DD) that the stream has come to."""
    queue_length: int | None
    """Items that wait in the queue; None without one."""
    reconnections: int
    repeats: int
    """Events delivered again and recognised."""
    quarantined: int
    """Messages that could not be read, and lie in the quarantine with the reason."""
    bytes_received: int
    hosts: tuple[str, ...]
    """The hosts that served, in the order of their first event."""
    gaps: tuple[str, ...] = ()
    """What no host had any more of an interval of the past, in words. Only a run from a time to an end that has passed
    looks for it."""

    def __getitem__(self, name: str) -> Any:
        if name not in type(self).model_fields:
            raise KeyError(name)
        return getattr(self, name)
