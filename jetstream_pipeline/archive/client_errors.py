"""What an archive's host can answer other than what was asked for."""

from __future__ import annotations

from jetstream_pipeline.archive.errors import ArchiveError


class NoArchive(ArchiveError):
    """The host has no archive: only its stream can be read."""

    passing = False

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} offers no archive: what is older than its stream's look-back is to be had elsewhere")


class NotAllowed(ArchiveError):
    """The archive wants a token, or another one."""

    passing = False


class StalePlan(ArchiveError):
    """A segment is no longer the one that was planned: plan again."""

    def __init__(self, host: str, segment: str) -> None:
        super().__init__(f"{segment} on {host} has changed since it was planned; plan again")


class BadAnswer(ArchiveError):
    """The host does not keep to the archive's protocol."""


class Later(ArchiveError):
    """One attempt failed, and another one may not."""

    def __init__(self, reason: str, pause_sec: float | None = None) -> None:
        """`pause_sec`: how long the host asks to be left alone."""
        self.pause_sec = pause_sec
        super().__init__(reason)
