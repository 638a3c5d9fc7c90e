"""What can go wrong between us and the archive."""

from __future__ import annotations

from jetstream_pipeline.jetstream.errors import JetstreamError


class ArchiveError(JetstreamError):
    """The archive could not be read. Passing where another attempt, or another copy, may be better."""


class DamagedSegment(ArchiveError):
    """A segment or a block is not what it says it is. `where` names it: a file, or a file and a block of it."""

    def __init__(self, where: str, what: str) -> None:
        self.where = where
        super().__init__(f"{where} is damaged: {what}; fetch it again")


class UnsealedSegment(ArchiveError):
    """A segment that its server still writes: it has no index yet."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} is not sealed: its server was still writing it; fetch it again later")
