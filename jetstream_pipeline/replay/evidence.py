"""What a replay has seen that shows whether its window is whole, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from jetstream_pipeline.archive.history import Stretch
from jetstream_pipeline.jetstream.errors import Gap
from jetstream_pipeline.replay.edges import Section
from jetstream_pipeline.storage.summary import Archived, Clamp, Proof, WindowState
from jetstream_pipeline.window import Window, from_us

_CONNECTIONS_KEPT = 200


class Evidence(BaseModel):
    """Gathered while a window is read, over all runs that it takes; each checkpoint of the staged window holds it."""

    fingerprint: str
    """Of the filter that the window is read with."""
    version: str
    """Of the program; what another one has staged is not gone on with."""
    skew_us: int
    cursor: int
    """What the first connection asked for: unix microseconds."""
    start_shown_by: str | None = None
    end_shown_by: str | None = None
    gaps: list[Gap] = []
    doubts: list[str] = []
    """What a host did on account of which something may be missing, although it had the window's start and end."""
    connections: list[str] = []
    hosts: list[str] = []
    wires: list[str] = []
    archived: list[Stretch] = []
    position_us: int = 0
    section: Section = Section.BEFORE
    """Where the stream was: what comes next lies there or further on."""
    repeats: int = 0
    resumptions: int = 0
    seconds: float = 0.0

    def saw(self, host: str, wire: str, position_us: int) -> None:
        """Where the stream was read from, and how far it has come."""
        if host not in self.hosts:
            self.hosts.append(host)
        if wire not in self.wires:
            self.wires.append(wire)
        self.position_us = max(self.position_us, position_us)

    def with_connections(self, endings: Sequence[str]) -> list[str]:
        return [*self.connections, *endings][-_CONNECTIONS_KEPT:]

    def can_be_gone_on_with(self, new: Evidence) -> bool:
        """Whether what this shows is of the same reading as one of the same window that begins now."""
        return (self.fingerprint, self.version, self.skew_us) == (new.fingerprint, new.version, new.skew_us)

    def verdict(self, window: Window) -> tuple[WindowState, str]:
        """The window's state and, in words, what shows it."""
        lost = [gap for gap in self.gaps if gap.begins_us > window.start_us]
        if lost:
            return WindowState.TRUNCATED, "; ".join(map(str, lost))
        if self.end_shown_by is None:
            return WindowState.UNPROVEN, "the stream fell silent before it was seen to pass the window's end"
        start_shown_by = self.start_shown_by or "; ".join(map(str, self.gaps))
        if not start_shown_by:
            return WindowState.UNPROVEN, "nothing showed that the host still had the window's start"
        if self.doubts:
            return WindowState.UNPROVEN, "; ".join(self.doubts)
        return WindowState.COMPLETE, f"{start_shown_by}; {self.end_shown_by}"

    @property
    def lacks_lead(self) -> bool:
        """Whether the host no longer had what lies just before the window, and what its clock may have moved there."""
        return bool(self.gaps)

    def proof(self) -> Proof:
        return Proof(
            cursor=self.cursor,
            start_shown_by=self.start_shown_by,
            end_shown_by=self.end_shown_by,
            position=from_us(self.position_us) if self.position_us else None,
            connections=tuple(self.connections),
            clamps=tuple(
                Clamp(host=gap.host, asked=from_us(gap.asked_us), begins=from_us(gap.begins_us)) for gap in self.gaps
            ),
            archived=tuple(
                Archived(
                    host=one.host,
                    first_seq=one.first_seq,
                    last_seq=one.last_seq,
                    first_time=from_us(one.first_us),
                    last_time=from_us(one.last_us),
                    segments=one.segments,
                )
                for one in self.archived
            ),
            repeats=self.repeats,
            resumptions=self.resumptions,
        )
