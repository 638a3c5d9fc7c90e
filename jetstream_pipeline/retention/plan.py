"""Which of a stream's windows are beyond a limit: a plan over what stands, made without a clock or a disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from jetstream_pipeline.retention.rules import Limit
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.window import Window

_GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Held:
    """What there is of a window, or of a day that is one file: its files in the order in which they go, and their
    bytes."""

    window: Window
    files: tuple[AnyPath, ...]
    bytes: int


@dataclass(frozen=True)
class Due:
    """What is to go, and by which limit."""

    held: Held
    why: str


def horizon(held: Sequence[Held], limit: Limit, now: datetime) -> datetime | None:
    """The start of the oldest hour that is kept; None where all is. `held`: oldest first. The newest is always kept."""
    starts = [start for start in (_by_age(limit, now), _by_size(held, limit)) if start]
    if not (held and starts):
        return None
    return min(max(starts), held[-1].window.start)


def _is_before(one: Held, moment: datetime) -> bool:
    """A day goes when all of it is due."""
    return one.window.end <= moment


def due(held: Sequence[Held], limit: Limit, now: datetime) -> Iterator[Due]:
    """What lies before the horizon, oldest first."""
    kept_from, by_age = horizon(held, limit, now), _by_age(limit, now)
    for one in held:
        if kept_from and _is_before(one, kept_from):
            is_old = by_age and _is_before(one, by_age)
            why = f"older than {limit.days} days" if is_old else f"beyond the newest {limit.gigabytes:g} GB"
            yield Due(one, why)


def _by_age(limit: Limit, now: datetime) -> datetime | None:
    return Window.hour(now - timedelta(days=limit.days)).start if limit.days is not None else None


def _by_size(held: Sequence[Held], limit: Limit) -> datetime | None:
    if limit.gigabytes is None:
        return None
    room = limit.gigabytes * _GIGABYTE
    for one in reversed(held):
        room -= one.bytes
        if room < 0:
            return one.window.end
    return None
