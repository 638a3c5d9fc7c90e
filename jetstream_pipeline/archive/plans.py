"""A plan: which segments, or blocks of them, may hold what was asked for, in stream order. Nothing is asked here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from jetstream_pipeline.archive.answers import PlannedSegment
from jetstream_pipeline.events.schema import COMMIT
from jetstream_pipeline.jetstream.subscription import KINDS, Subscription


@dataclass(frozen=True)
class Unit:
    """What is downloaded of one segment. It may hold more than was asked for, never less."""

    name: str
    index: int
    checksum: str
    min_seq: int
    max_seq: int
    """The whole segment's bounds, both included."""
    blocks: tuple[range, ...] | None = None
    """Numbers of blocks, kept in order and each once, no two ranges touching; None for the whole segment."""

    def __post_init__(self) -> None:
        if self.blocks is not None:
            object.__setattr__(self, "blocks", _joined(self.blocks))

    @classmethod
    def of(cls, segment: PlannedSegment) -> Unit:
        blocks = None
        if segment.mode == "blocks":
            blocks = tuple(range(one.first, one.last + 1) for one in segment.blocks)
        return cls(segment.name, segment.index, segment.checksum, segment.min_seq, segment.max_seq, blocks)

    @property
    def numbers(self) -> Iterator[int]:
        """The blocks' numbers; none for the whole segment."""
        for one in self.blocks or ():
            yield from one


@dataclass(frozen=True)
class Plan:
    """Units in stream order, which cover the archive from where was asked to `sealed_tip_seq` (included)."""

    units: tuple[Unit, ...]
    sealed_tip_seq: int


def filters(subscription: Subscription) -> dict[str, list[str]]:
    """A subscription as planSnapshot's filters, at most as many as it takes: their limits are the same.

    Collections constrain commits only; where no commits are wanted, the server refuses them.
    """
    kinds = subscription.wanted_kinds
    wanted = {
        "kinds": kinds if kinds != KINDS else (),
        "collections": subscription.collections if COMMIT in kinds else (),
        "dids": subscription.dids,
    }
    return {name: list(values) for name, values in wanted.items() if values}


def merged(units: Iterable[Unit]) -> tuple[Unit, ...]:
    """One unit for each segment, in order: pages of a plan may end within one.

    Of a segment that was compacted between two pages, the later version is the one to be had.
    """
    found: dict[int, Unit] = {}
    for unit in units:
        earlier = found.get(unit.index)
        found[unit.index] = unit if earlier is None else replace(unit, blocks=_both(earlier.blocks, unit.blocks))
    return tuple(found[index] for index in sorted(found))


def _both(some: tuple[range, ...] | None, others: tuple[range, ...] | None) -> tuple[range, ...] | None:
    return None if some is None or others is None else (*some, *others)


def _joined(ranges: Iterable[range]) -> tuple[range, ...]:
    joined: list[range] = []
    for one in sorted(ranges, key=lambda one: one.start):
        if joined and one.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, one.stop))
        else:
            joined.append(one)
    return tuple(joined)
