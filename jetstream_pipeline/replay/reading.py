"""Reading one window from hosts into staging, with what shows that nothing is missing. Putting it into the lake is
`sealing`'s."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from jetstream_pipeline import __version__
from jetstream_pipeline.events.crossing import commits_of
from jetstream_pipeline.events.identity import digest
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream.client import Batch, Span, StreamClient
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.recent import MAX_KEYS, Position
from jetstream_pipeline.jetstream.resumption import Resumption
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.edges import Edges, Section
from jetstream_pipeline.replay.evidence import Evidence
from jetstream_pipeline.storage.quarantine import Unreadable, quarantined
from jetstream_pipeline.storage.staging import StagedWindow
from jetstream_pipeline.window import Window, from_us

_SILENCE_SEC = 180.0
"""Silence after which a stream is left, and what was kept back is decided by the events that there are. An old host may
scan for a minute or two before it comes to something that a narrow filter lets through."""
_WITNESSES = 2


@dataclass(frozen=True)
class Progress:
    """How far a replay has come: events kept, the latest time seen (unix microseconds), seconds since it began."""

    events: int
    position_us: int
    seconds: float
    note: str | None = None
    """What one would want to know at once: how a connection ended."""

    def share(self, window: Window) -> float:
        """The part of the window behind us, 0 to 1."""
        span = window.end_us - window.start_us
        return min(max((self.position_us - window.start_us) / span, 0.0), 1.0)


@dataclass(frozen=True)
class Source:
    """What a window is read from: the stream's filter, hosts in the order of fail-over, how they are spoken to, and how
    far their clocks may differ."""

    subscription: Subscription
    hosts: Sequence[Host]
    skew_us: int
    options: Options = field(default_factory=Options)


def read_window(
    window: Window, source: Source, files: StagedWindow, on_progress: Callable[[Progress], None] | None = None
) -> Evidence:
    """Read a window into `files`, going on with what a run that died has left there.

    Refused where every host refuses the request, JetstreamError where none can be reached, StorageError where the disk
    does not take the data. What was read until then stays staged.
    """
    return asyncio.run(_Reading(window, source, files, on_progress).read())


class _Reading:
    def __init__(
        self,
        window: Window,
        source: Source,
        files: StagedWindow,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._subscription = source.subscription
        self._files = files
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._edges = Edges(window, source.skew_us)
        before, *_, after = self._edges.moments_us
        self._client = StreamClient(
            source.hosts,
            source.subscription,
            source.options,
            self._report,
            span=Span(before, after),
            skew_us=source.skew_us,
        )
        self._evidence = _found(files, source, cursor=before - source.skew_us)
        # Whether it passed the end is for what comes now to show.
        self._edges.section = min(self._evidence.section, Section.TAIL)
        self._events = sum(batch.num_rows for section, batch in files.events() if section == Section.WINDOW)
        self._position = Position()
        self._last_us = next((batch["time_us"][-1].as_py() for batch in files.latest_events(1)[-1:]), before)

    async def read(self) -> Evidence:
        evidence, edges = self._evidence, self._edges
        if evidence.end_shown_by is not None:
            return evidence
        resumption = Resumption(evidence.cursor, evidence.skew_us)
        resumption.restore(self._files.latest_events(MAX_KEYS), _digests(self._files))
        async with aclosing(self._client.batches(evidence.cursor, resumption)) as batches:
            async for batch in batches:
                self._keep(batch)
                if self._files.is_due:
                    state = self._standing().model_dump_json()
                    await asyncio.to_thread(self._files.checkpoint, state)
                self._report()
                if edges.passed or batch.silence >= _SILENCE_SEC:
                    break
        evidence.end_shown_by = _end_shown(edges)
        evidence.doubts += _fallen_back(edges)
        final = self._standing("closed by us at the window's end" if edges.passed else "closed by us in silence")
        self._files.checkpoint(final.model_dump_json())
        return final

    def _keep(self, batch: Batch) -> None:
        self._position.add(batch.events["time_us"])
        if batch.events.num_rows:
            self._evidence.saw(batch.host, batch.wire, self._position.time_us)
        for section, part in self._edges.cut(batch.part, final=batch.silence >= _SILENCE_SEC):
            self._add(section, part, batch)
            if part.events.num_rows:
                self._last_us = part.events["time_us"][-1].as_py()

    def _add(self, section: Section, part: Part, batch: Batch) -> None:
        kept = part.filtered(self._subscription.mask(part.events)).events
        self._files.add(section, kept)
        if section is not Section.WINDOW:
            return
        self._events += kept.num_rows
        if part.rejected:
            times = [self._last_us, *part.events["time_us"].to_pylist()]
            messages = [Unreadable(one.message, one.reason, times[one.after]) for one in part.rejected]
            now = datetime.now(UTC)
            self._files.add_rejected(quarantined(messages, received_at=now, host=batch.host, wire=batch.wire))

    def _standing(self, *endings: str) -> Evidence:
        """The evidence as it is now, with what the client has seen."""
        evidence, client = self._evidence, self._client
        return evidence.model_copy(
            update={
                "section": self._edges.section,
                "start_shown_by": evidence.start_shown_by or client.shown,
                "gaps": [*evidence.gaps, *client.gaps],
                "doubts": [*evidence.doubts, *client.left_out],
                "connections": evidence.with_connections([*client.endings, *endings]),
                "archived": [*evidence.archived, *client.archives.read],
                "repeats": evidence.repeats + client.repeats,
                "seconds": evidence.seconds + time.monotonic() - self._began,
            }
        )

    def _report(self, note: str | None = None) -> None:
        if self._on_progress:
            seconds = time.monotonic() - self._began
            self._on_progress(Progress(self._events, self._evidence.position_us, seconds, note))


def _found(files: StagedWindow, source: Source, cursor: int) -> Evidence:
    """What a run that died had seen, where this one can go on with it; otherwise its batches are dropped."""
    new = Evidence(
        fingerprint=source.subscription.fingerprint, version=__version__, skew_us=source.skew_us, cursor=cursor
    )
    if files.state is None:
        return new
    with suppress(ValidationError):
        found = Evidence.model_validate_json(files.state)
        if found.can_be_gone_on_with(new):
            found.resumptions += 1
            return found
    files.clear()
    return new


def _digests(files: StagedWindow) -> list[bytes]:
    return [digest(message) for rows in files.rejected() for message in rows["message"].to_pylist()]


def _end_shown(edges: Edges) -> str | None:
    """What showed that the stream passed the window: one commit, or one change of an account, shows nothing."""
    past = edges.beyond.events
    if len(set(commits_of(past))) < _WITNESSES:
        return None
    return f"{past['host'][0].as_py()} went on to {from_us(past['time_us'][0].as_py()):%Y-%m-%d %H:%M:%S} UTC"


def _fallen_back(edges: Edges) -> list[str]:
    """What is to be said where most of what has come after the end is from before it: times ran ahead there, and what
    the window lacks follows only now."""
    past = edges.beyond.events
    times = dict(zip(commits_of(past), past["time_us"].to_pylist(), strict=True))
    early = sum(time_us < edges.moments_us[Section.WINDOW] for time_us in times.values())
    if 2 * early <= len(times):
        return []
    return [f"{past['host'][0].as_py()} fell back to before the window's end after it had passed it"]
