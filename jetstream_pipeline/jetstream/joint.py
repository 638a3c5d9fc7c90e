"""Whether what a connection brings joins on to what came before it, and what shows that."""

from __future__ import annotations

import pyarrow as pa

from jetstream_pipeline.events.crossing import commits_of, crossing
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.errors import HistoryMissing
from jetstream_pipeline.jetstream.history import missing
from jetstream_pipeline.jetstream.recent import Recent
from jetstream_pipeline.jetstream.resumption import FIRST_TIME_CURSOR
from jetstream_pipeline.jetstream.server import Server
from jetstream_pipeline.window import from_us

_WITNESSES = 3
"""Commits before a moment that show a history from before it: one or two may have been imported there."""


class Joint:
    """The place at which one connection takes up the stream."""

    def __init__(self, server: Server, cursor: int | None, recent: Recent | None, from_us: int) -> None:
        """`recent`: what came before; where nothing did, the host's history must reach back to before `from_us`."""
        self._server = server
        self._cursor = cursor
        self._recent = recent
        self._from_us = from_us
        self.clamped = False
        """Whether the host said that it no longer has what it was asked for."""
        self.shown: str | None = None
        """What shows that nothing is missing here; None as long as nothing came."""

    async def close(self, events: pa.RecordBatch) -> None:
        """See whether the first events join on. HistoryMissing where they do not."""
        self.shown = self._seen(events) or await self._asked()

    def _seen(self, events: pa.RecordBatch) -> str | None:
        name = self._server.host.name
        if self._recent is not None:
            return f"{name} sent what came before once more" if self._recent.knows_any(events) else None
        before = crossing(events, self._from_us, final=True).before
        if not self.clamped and len(set(commits_of(events.slice(0, before)))) >= _WITNESSES:
            return f"{name} had events from {_moment(events['time_us'][0].as_py())} on"
        return None

    async def _asked(self) -> str:
        name, cursor = self._server.host.name, self._cursor
        if cursor is None or cursor < FIRST_TIME_CURSOR:
            return f"{name} was asked for its own sequence number"
        if self._server.wire is Wire.V2 and not self.clamped:
            return f"{name} took the cursor {_moment(cursor)} unclamped"
        gap = await missing(self._server, cursor)
        if gap and (self._recent is not None or gap.begins_us >= self._from_us):
            raise HistoryMissing(gap)
        return f"{name} has a history from before {_moment(cursor if gap is None else gap.begins_us)}"


def _moment(time_us: int) -> str:
    return f"{from_us(time_us):%Y-%m-%d %H:%M:%S} UTC"
