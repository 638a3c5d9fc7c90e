"""Snapshot plans: which segments, or which of their blocks, may hold what somebody asks for.

A plan may name too much, never too little. Limits and the wording of refusals are those of the real server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from jetstream_pipeline.simulator.archive import Archive
from jetstream_pipeline.simulator.blooms import Hashes, hashes, may_hold
from jetstream_pipeline.simulator.filters import MAX_COLLECTIONS, MAX_DIDS, is_did, is_nsid
from jetstream_pipeline.simulator.segments import BlockSummary, Summary
from jetstream_pipeline.simulator.subscription_v2 import KINDS, XrpcRefused

PATIENCE_SECONDS = 5.0
"""Segments may have to be made first. An answer that has taken so long ends early; it says where to go on."""
_WHOLE_SEGMENT = 0.75
"""From this share of its blocks on, the segment itself is named."""


class _Body(msgspec.Struct):
    kinds: list[str] | None = None
    dids: list[str] | None = None
    collections: list[str] | None = None
    after: int | None = msgspec.field(default=None, name="afterSeq")
    before: int | None = msgspec.field(default=None, name="beforeSeq")


@dataclass(frozen=True)
class Wanted:
    kinds: frozenset[str]
    dids: Hashes
    collections: frozenset[str]
    prefixes: tuple[str, ...]
    after: int
    before: int | None

    def may_be_in(self, topic: str) -> bool:
        """Whether wanted events may be among those of a collection, or of `$identity` or `$account`."""
        if topic.startswith("$"):
            return not self.kinds or topic[1:] in self.kinds
        if self.kinds and "commit" not in self.kinds:
            return False
        if not (self.collections or self.prefixes):
            return True
        return topic in self.collections or topic.startswith(self.prefixes)

    def chosen(self, segment: Summary) -> list[int]:
        """The blocks that may hold wanted events."""
        if self.dids.size and not may_hold(segment.bloom, self.dids):
            return []
        return [number for number, block in enumerate(segment.blocks) if self._may_be_in_block(block)]

    def _may_be_in_block(self, block: BlockSummary) -> bool:
        if not block.count or block.bounds.max_seq <= self.after:
            return False
        if self.before is not None and block.bounds.min_seq > self.before:
            return False
        if not any(map(self.may_be_in, block.topics)):
            return False
        return not self.dids.size or may_hold(block.bloom, self.dids)


def read_wanted(body: bytes) -> Wanted:
    """Raises XrpcRefused."""
    try:
        read = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _invalid("invalid request body") from None
    kinds, dids, collections = read.kinds or [], read.dids or [], read.collections or []
    _check_names(kinds, dids, collections)
    if collections and kinds and "commit" not in kinds:
        raise _invalid("collections filter can never apply: kinds excludes commit")
    for name, seq in (("afterSeq", read.after), ("beforeSeq", read.before)):
        if seq is not None and seq < 0:
            raise _invalid(f"{name} must be >= 0")
    if read.after is not None and read.before is not None and read.before <= read.after:
        raise _invalid("beforeSeq must be greater than afterSeq")
    prefixes = tuple(one[:-1] for one in collections if one.endswith(".*"))
    exact = frozenset(one for one in collections if not one.endswith(".*"))
    # There is no sequence number 0.
    return Wanted(frozenset(kinds), hashes(dids), exact, prefixes, read.after or 0, read.before)


def plan(archive: Archive, wanted: Wanted, largest: int) -> dict[str, Any]:
    """One page of a plan as the server spells it, with at most so many entries. Takes its time."""
    page = _Page(largest, wanted.after)
    number = archive.number
    tip = archive.tip_seq(number)
    if wanted.before is not None:
        tip = min(tip, wanted.before)
    for index in _in_question(archive, wanted, number):
        if page.is_late:
            page.through = page.examined_through
            break
        page.add(archive.summary(index), wanted)
        if page.is_full:
            break
    else:
        page.examined, page.through = number, tip
    return {
        "plannedThroughSeq": min(page.through, tip),
        "sealedTipSeq": tip,
        "segments": page.segments,
        "stats": {
            "blocksMatched": page.blocks,
            "entries": page.entries,
            "segmentsExamined": page.examined,
            "segmentsMatched": len(page.segments),
        },
    }


def _in_question(archive: Archive, wanted: Wanted, number: int) -> range:
    """The segments that may hold these sequence numbers."""
    last = number - 1 if wanted.before is None else min(number - 1, archive.index_of_seq(wanted.before))
    return range(max(0, archive.index_of_seq(wanted.after)), last + 1)


class _Page:
    """A page of a plan that grows segment by segment."""

    def __init__(self, largest: int, after: int) -> None:
        self._largest = largest
        self._after = after
        self._late_at = time.monotonic() + PATIENCE_SECONDS
        self.is_full = False
        self.segments: list[dict[str, Any]] = []
        self.entries = self.blocks = self.examined = 0
        self.through = self.examined_through = 0
        """The last sequence number of the last entry, and of the last segment."""

    @property
    def is_late(self) -> bool:
        # Only then does the next page begin later than this one.
        return self.examined_through > self._after and time.monotonic() > self._late_at

    def add(self, segment: Summary, wanted: Wanted) -> None:
        """As much of the segment as has room; the page is full if something has none."""
        self.examined = segment.index + 1
        chosen = wanted.chosen(segment)
        self.examined_through = segment.bounds.max_seq
        if chosen and len(chosen) >= _WHOLE_SEGMENT * len(segment.blocks):
            if self._take(len(chosen), segment.bounds.max_seq):
                self.segments.append(_described(segment, "segment"))
        elif chosen:
            ranges = [
                {"first": first, "last": last}
                for first, last in _ranges(chosen)
                if self._take(last - first + 1, segment.blocks[last].bounds.max_seq)
            ]
            if ranges:
                self.segments.append({"blocks": ranges, **_described(segment, "blocks")})

    def _take(self, blocks: int, max_seq: int) -> bool:
        self.is_full = self.is_full or self.entries >= self._largest
        if self.is_full:
            return False
        self.entries += 1
        self.blocks += blocks
        self.through = max_seq
        return True


def _described(segment: Summary, mode: str) -> dict[str, Any]:
    return {
        "checksum": segment.checksum,
        "index": segment.index,
        "maxSeq": segment.bounds.max_seq,
        "minSeq": segment.bounds.min_seq,
        "mode": mode,
        "name": segment.name,
    }


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges without gaps, both ends included."""
    for run in np.split(np.array(numbers), np.flatnonzero(np.diff(numbers) != 1) + 1):
        yield int(run[0]), int(run[-1])


def _check_names(kinds: Sequence[str], dids: Sequence[str], collections: Sequence[str]) -> None:
    if len(kinds) > len(KINDS):
        raise _invalid("too many kinds")
    for kind in kinds:
        if kind not in KINDS:
            raise _invalid(f"invalid kind: {kind}")
    if len(dids) > MAX_DIDS:
        raise _invalid("too many DIDs")
    for did in dids:
        if not is_did(did):
            raise _invalid(f"invalid DID: {did}")
    if len(collections) > MAX_COLLECTIONS:
        raise _invalid("too many collections")
    for collection in collections:
        if collection.endswith(".*"):
            if not is_nsid(f"{collection[:-2]}.x"):
                raise _invalid(f"invalid collection wildcard: {collection}")
        elif not is_nsid(collection):
            raise _invalid(f"invalid collection: {collection}")


def _invalid(message: str) -> XrpcRefused:
    return XrpcRefused(400, "InvalidRequest", message)
