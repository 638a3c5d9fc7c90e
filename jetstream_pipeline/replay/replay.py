"""The use case: one window of one stream, from a host into the lake, with what shows that it is whole."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline import __version__
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.client import Batch, StreamClient
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.edges import Edges
from jetstream_pipeline.storage.lake import WindowState, WindowSummary, read_summary
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, quarantined
from jetstream_pipeline.storage.staging import StagedWindow, staged
from jetstream_pipeline.window import Window, from_us

_LEAD_US = 60_000_000
"""How far before the window the replay begins, so that an event from before its start is seen."""

_SILENCE_SEC = 60.0


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


class _Tally:
    """Counts over the events kept. Nothing in it grows with the window but its few collections' names."""

    def __init__(self) -> None:
        self.events = 0
        self.position_us = 0
        self.first_us: int | None = None
        self.last_us: int | None = None
        self.kinds: Counter[str] = Counter()
        self.collections: Counter[str] = Counter()
        self.hosts: dict[str, None] = {}
        self.wires: dict[str, None] = {}
        self.quarantined = 0

    def add(self, kept: pa.RecordBatch, batch: Batch) -> None:
        self.hosts.setdefault(batch.host)
        self.wires.setdefault(batch.wire)
        if kept.num_rows == 0:
            return
        self.events += kept.num_rows
        times = kept["time_us"]
        self.first_us = times[0].as_py() if self.first_us is None else self.first_us
        self.last_us = times[-1].as_py()
        self.kinds.update(_counts(kept["kind"]))
        self.collections.update(_counts(kept["collection"]))


def replay_window(
    stream: str,
    subscription: Subscription,
    window: Window,
    *,
    hosts: Sequence[Host],
    data: DataDirectory,
    on_progress: Callable[[Progress], None] | None = None,
) -> WindowSummary:
    """Replay one window into `data`'s lake and return what its file says of itself.

    A host that no longer has the window's start is passed over for the next one. InvalidInput where the window stands
    with another filter, Refused where every host refuses the request, JetstreamError where none can be reached,
    StorageError where the disk does not take the data, WindowBusy where another run is at the same window; then the
    lake is as it was.
    """
    if window.end > datetime.now(UTC):
        raise InvalidInput(f"{window} has not ended yet; only finished windows can be replayed")
    _check_filter(data, stream, window, subscription)
    left = list(hosts)
    while True:
        with staged(data, stream, window) as files:
            summary = asyncio.run(_replay(stream, subscription, window, left, files, on_progress))
            left = _others(left, summary)
            if not left:
                files.commit(summary)
                return summary


def _check_filter(data: DataDirectory, stream: str, window: Window, subscription: Subscription) -> None:
    """A stream's windows are of one filter: another one's events do not take their place unasked."""
    path = data.lake.events_path(stream, window)
    if path.exists() and read_summary(path).fingerprint != subscription.fingerprint:
        raise InvalidInput(
            f"{stream} {window} was replayed with other collections or DIDs; give these a stream name of their own, or "
            f"delete {path}"
        )


def _others(hosts: Sequence[Host], summary: WindowSummary) -> list[Host]:
    """The hosts still to ask: those after the one that no longer had the window's start."""
    if summary.state is not WindowState.TRUNCATED:
        return []
    names = [host.name for host in hosts]
    asked = names.index(summary.host) if summary.host in names else len(names) - 1
    return list(hosts[asked + 1 :])


async def _replay(
    stream: str,
    subscription: Subscription,
    window: Window,
    hosts: Sequence[Host],
    files: StagedWindow,
    on_progress: Callable[[Progress], None] | None,
) -> WindowSummary:
    began = time.monotonic()
    edges, tally = Edges(window, sparse=bool(subscription.dids)), _Tally()

    def report(note: str | None = None) -> None:
        if on_progress:
            on_progress(Progress(tally.events, tally.position_us, time.monotonic() - began, note))

    client = StreamClient(hosts, subscription, on_note=report)
    cursor = window.start_us - _LEAD_US
    async with aclosing(client.batches(cursor)) as batches:
        async for batch in batches:
            await asyncio.to_thread(_keep, batch, edges, tally, files)
            report()
            if edges.passed or batch.silence >= _SILENCE_SEC:
                break
    state, reason = edges.verdict()
    return WindowSummary(
        stream=stream,
        start=window.start,
        end=window.end,
        state=state,
        reason=reason,
        fingerprint=subscription.fingerprint,
        events=tally.events,
        first_time=None if tally.first_us is None else from_us(tally.first_us),
        last_time=None if tally.last_us is None else from_us(tally.last_us),
        counts_by_kind=dict(tally.kinds),
        counts_by_collection=dict(tally.collections),
        host=",".join(tally.hosts),
        wire=",".join(tally.wires),
        cursor=cursor,
        connections=[
            *client.endings,
            "closed by us at the window's end" if edges.passed else "closed by us in silence",
        ],
        repeats=client.repeats,
        quarantined=tally.quarantined,
        seconds=time.monotonic() - began,
        finished_at=datetime.now(UTC),
        version=__version__,
    )


def _keep(batch: Batch, edges: Edges, tally: _Tally, files: StagedWindow) -> None:
    kept, rejected = edges.cut(batch.events, batch.rejected)
    if rejected:
        times = [tally.position_us, *kept["time_us"].to_pylist()]
        messages = [Unreadable(one.message, one.reason, times[one.after]) for one in rejected]
        files.add_rejected(quarantined(messages, received_at=datetime.now(UTC), host=batch.host))
        tally.quarantined += len(messages)
    files.add(kept)
    tally.add(kept, batch)
    if batch.events.num_rows:
        tally.position_us = max(tally.position_us, pc.max(batch.events["time_us"]).as_py())


def _counts(values: pa.Array) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values.drop_null()).to_pylist()}
