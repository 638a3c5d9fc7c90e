"""What goes wrong on purpose, and when, as a test or a demo writes it down.

Playing it belongs to `handshake`, `fault_player` and `archive_api`, keeping count to `fault_plan`. `after` is always
the number of events that the connection sends first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

NO_CODE, CUT, DROPPED = 1005, 1006, 1015
_CODES = (*range(1000, 1004), NO_CODE, CUT, *range(1007, 1016), *range(3000, 5000))


@dataclass(frozen=True)
class Cut:
    """End without a close frame."""

    after: int


@dataclass(frozen=True)
class Reset:
    """End with a TCP reset."""

    after: int


@dataclass(frozen=True)
class CutAfterBytes:
    """End after so many bytes of frames, or of a download, wherever that is."""

    bytes: int


@dataclass(frozen=True)
class Close:
    """End with a close frame. 1005: an empty one; 1006: none; 1015: the handshake itself gets no answer."""

    after: int
    code: int
    reason: str = ""

    def __post_init__(self) -> None:
        if self.code not in _CODES:
            raise ValueError(f"code={self.code}: no close frame has this code; choose another between 1000 and 4999")


@dataclass(frozen=True)
class HalfFrame:
    """End in the middle of a frame."""

    after: int


@dataclass(frozen=True)
class Silence:
    """Send nothing more, no ping either, and stay."""

    after: int
    answer_pings: bool = True


@dataclass(frozen=True)
class Refuse:
    """Answer the request with this HTTP status."""

    status: int
    body: str = ""
    retry_after: int | None = None
    """Seconds; None: without a word about it."""


@dataclass(frozen=True)
class Slow:
    """Send no faster than this."""

    bytes_per_second: int


@dataclass(frozen=True)
class Duplicate:
    """Send the last events again, then go on."""

    after: int
    count: int


@dataclass(frozen=True)
class Reorder:
    """Send the next events in another order, in which each repository's own order holds, then go on."""

    after: int
    count: int


@dataclass(frozen=True)
class Garbage:
    """Send this as one message, then go on."""

    after: int
    payload: bytes
    binary: bool = False


@dataclass(frozen=True)
class Oversized:
    """Send a made-up post whose message has this many bytes before compression, then go on."""

    after: int
    size: int


@dataclass(frozen=True)
class RetireDictionary:
    """From now on the second wire has another dictionary; whoever used the old one, and this connection, must go."""

    after: int


@dataclass(frozen=True)
class ErrorFrame:
    """Say what is wrong and end: in a frame on the second wire, with a close frame on the first."""

    after: int
    error: str
    message: str = ""


@dataclass(frozen=True)
class Crash:
    """End all connections without a close frame, and witness the last `lost` events before this point, and as many
    after it, once more: in another order, under the same sequence numbers, not before this point in time."""

    after: int
    lost: int


@dataclass(frozen=True)
class ServeEarly:
    """A time cursor starts so much earlier than asked, as far as the look-back goes."""

    minutes: float


@dataclass(frozen=True)
class Delay:
    """Answer so much later."""

    seconds: float


@dataclass(frozen=True)
class Corrupt:
    """One byte of the answer's body is another one; where there are fewer bytes, the last."""

    at: int


@dataclass(frozen=True)
class Compact:
    """The archive is compacted before the request is answered, as `Simulator.compact` does it."""

    share: float | None = None


Fault: TypeAlias = (
    Cut
    | Reset
    | CutAfterBytes
    | Close
    | HalfFrame
    | Silence
    | Refuse
    | Slow
    | Duplicate
    | Reorder
    | Garbage
    | Oversized
    | RetireDictionary
    | ErrorFrame
    | Crash
    | ServeEarly
)

ArchiveFault: TypeAlias = Refuse | Delay | Slow | CutAfterBytes | Corrupt | Compact


@dataclass(frozen=True)
class Faults:
    """Nothing goes wrong by default."""

    cut_after_events: tuple[int, ...] = ()
    """Connection number i ends, without a close frame, after it sent this many events; later ones stay."""
    cut_at_seqs: frozenset[int] = frozenset()
    """Each of these ends the connection that sent it, once, right after the event."""
    script: tuple[Fault | None, ...] = ()
    """Subscription number i plays fault number i. It is counted on both wires, and also where its fault refuses it;
    what the server itself refuses is not counted."""
    lists: tuple[ArchiveFault | None, ...] = ()
    """Request number i for a list of segments plays fault number i. Here and below, only requests are counted that
    have the token where one is wanted."""
    plans: tuple[ArchiveFault | None, ...] = ()
    downloads: tuple[ArchiveFault | None, ...] = ()
    """Segments and blocks are counted together."""

    @property
    def are_of_archive(self) -> bool:
        """Whether any of them needs an archive."""
        return bool(self.lists or self.plans or self.downloads)
