"""What a window's file says of itself: its state, its counts, and the proof. It travels in the file's own metadata."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from jetstream_pipeline.storage.errors import Damaged
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.window import Window

SUMMARY_KEY = b"jetstream_window"
"""The Parquet key-value entry that holds a window's summary as JSON."""
SEGMENT_KEY = b"jetstream_segment"
"""The same for a segment of an archive."""


_Summary = TypeVar("_Summary", bound=BaseModel)


class WindowState(StrEnum):
    COMPLETE = "complete"
    """Its start and its end were shown, and nothing between them is missing as far as its host knows."""
    TRUNCATED = "truncated"
    """No host had all of it any more."""
    UNPROVEN = "unproven"
    """Its end, or a seam to its neighbours, could not be shown."""
    VERIFIED = "verified"
    """Complete, and a second host has the same events."""

    @property
    def is_whole(self) -> bool:
        return self in (WindowState.COMPLETE, WindowState.VERIFIED)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Clamp(_Frozen):
    """A host's history begins later than what it was asked for."""

    host: str
    asked: datetime
    begins: datetime


class Archived(_Frozen):
    """What came from a host's archive instead of its stream."""

    host: str
    first_seq: int
    last_seq: int
    """Sequence numbers of the host, both inclusive, that were planned for, whatever the filter let through."""
    first_time: datetime
    last_time: datetime
    """When the host witnessed what lies between them, as its list of segments says."""
    segments: int


class Proof(_Frozen):
    """What shows that a window's replay began early enough, ended late enough, and lost nothing between."""

    cursor: int
    """The cursor that the first connection asked for: unix microseconds, before the window's start."""
    start_shown_by: str | None
    """How it was established that the host still had the start; None where it was not."""
    end_shown_by: str | None
    """How it was established that the stream passed the end; None where it was not."""
    position: datetime | None
    """How far the stream was read."""
    connections: tuple[str, ...]
    """Why each connection ended, in order; the last 200."""
    clamps: tuple[Clamp, ...]
    """What no host had any more."""
    archived: tuple[Archived, ...] = ()
    """What came from archives, in order; everything else came from streams."""
    repeats: int
    """Events delivered again, recognised by their identity and dropped."""
    resumptions: int
    """How often the replay went on with the durable batches of a run that had died."""
    left_to_neighbours: int = 0
    """Events at the window's edges that the windows beside it hold already."""
    taken_from_beyond: int = 0
    """Events beyond the window's edges, by its host's clock, that the window beside it does not hold."""


class Verification(_Frozen):
    """What the comparison with a second host brought."""

    host: str
    compared_at: datetime
    compared: int
    """Events of the window that were looked for on the second host."""
    repaired: int
    """Events that the window lacked, merged in from the second host."""
    lacking_there: int
    """Events of the window that the second host lacks."""
    agreed: bool


class Counts(_Frozen):
    """What a window's file holds."""

    events: int
    first_time: datetime | None
    """The witnessed time of the first event in stream order, and of the last."""
    last_time: datetime | None
    counts_by_kind: dict[str, int]
    counts_by_collection: dict[str, int]
    """The thousand most frequent; the others together under an empty name."""
    content: str = ""
    """The identity of the rows in their order: another one, other rows. Empty where it is not known."""


class WindowSummary(Counts):
    """What a window's file says of itself, so that no second file can disagree with it."""

    stream: str
    start: datetime
    end: datetime
    state: WindowState
    reason: str
    """Why the state is what it is, in words."""
    fingerprint: str
    """Identity of the stream's filter; see `Subscription.fingerprint`."""
    host: str
    """The hosts that the events were read from, joined by a comma."""
    wire: str
    proof: Proof
    quarantined: int
    repaired: int = 0
    """Events that came from other hosts, or from the quarantine, after the replay."""
    verifications: tuple[Verification, ...] = ()
    seconds: float
    """Time that the replay took, over all of its runs."""
    finished_at: datetime
    version: str

    @property
    def window(self) -> Window:
        return Window(self.start, self.end)

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


class SegmentSummary(Counts):
    """What the file of an archive's segment says of itself."""

    stream: str
    segment: str
    host: str
    checksum: str
    """Of the segment as it was read: compaction changes it."""
    first_seq: int
    last_seq: int
    first_witnessed: datetime
    last_witnessed: datetime
    """When the host witnessed it. What was in the network before that carries the times that the host was told."""
    fingerprint: str
    """Identity of the stream's filter; see `Subscription.fingerprint`."""
    quarantined: int
    seconds: float
    finished_at: datetime
    version: str


def read_summary(path: AnyPath) -> WindowSummary:
    """The summary in a window's file; StorageError where it cannot be read, Damaged where it is none of ours."""
    return _read(path, SUMMARY_KEY, WindowSummary, "a window's file", "replay the window")


def read_segment_summary(path: AnyPath) -> SegmentSummary:
    """The summary in a segment's file; errors as `read_summary`."""
    return _read(path, SEGMENT_KEY, SegmentSummary, "a segment's file", "read the segment again")


def parse_summary(text: str, path: AnyPath) -> WindowSummary:
    """A summary as it was kept in the file of a day; Damaged where it is none."""
    return _parsed(
        {SUMMARY_KEY: text.encode()}, path, SUMMARY_KEY, WindowSummary, "a day's file", "put it back from a copy"
    )


def _read(path: AnyPath, key: bytes, kind: type[_Summary], what: str, remedy: str) -> _Summary:
    with reading(path) as file:
        metadata = file.metadata.metadata or {}
    return _parsed(metadata, path, key, kind, what, f"delete it and {remedy}")


def _parsed(
    metadata: Mapping[bytes, bytes], path: AnyPath, key: bytes, kind: type[_Summary], what: str, remedy: str
) -> _Summary:
    try:
        return kind.model_validate_json(metadata[key])
    except (KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise Damaged(f"{path} is not {what} ({reason}); {remedy}") from error
