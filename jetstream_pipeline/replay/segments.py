"""The use case: one segment of a host's archive as a file of its own in the lake, apart from the windows.

That is for what was in the network before its host began to witness it: it carries no hour of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, closing
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from jetstream_pipeline import __version__
from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.answers import ListedSegment
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.client_errors import NoArchive
from jetstream_pipeline.archive.history import History
from jetstream_pipeline.archive.plans import Plan
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.events.wires import ARCHIVE
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.storage.files import exists, replacing
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.quarantine import QUARANTINE_SCHEMA, Unreadable, quarantined
from jetstream_pipeline.storage.summary import SEGMENT_KEY, Counts, SegmentSummary
from jetstream_pipeline.storage.window_file import WindowWriter
from jetstream_pipeline.window import from_us

_SUFFIX = ".jss"
_T = TypeVar("_T")


def segment_name(segment: ListedSegment) -> str:
    """What a segment is called here: as on its host, but for the suffix."""
    return segment.name.removesuffix(_SUFFIX)


def list_segments(hosts: Sequence[Host], access: Access) -> tuple[Host, list[ListedSegment]]:
    """The first host that has an archive, and its sealed segments in stream order. InvalidInput where none has one,
    ArchiveError where it cannot be read."""
    return asyncio.run(_of_first(hosts, access, Archive.segments))


def plan_segments(
    hosts: Sequence[Host], access: Access, subscription: Subscription, after_seq: int, before_seq: int | None
) -> tuple[Host, Plan]:
    """The first host that has an archive, and what of it may hold a subscription's events between two sequence numbers
    (exclusive, inclusive). Errors as `list_segments`."""

    async def planned(archive: Archive) -> Plan:
        return await archive.plan(subscription, after_seq, before_seq)

    return asyncio.run(_of_first(hosts, access, planned))


async def _of_first(hosts: Sequence[Host], access: Access, ask: Callable[[Archive], Awaitable[_T]]) -> tuple[Host, _T]:
    for host in hosts:
        try:
            async with Archive(host, access.token_text) as archive:
                return host, await ask(archive)
        except NoArchive:
            continue
    raise InvalidInput(f"none of these hosts has an archive: {', '.join(host.name for host in hosts)}")


def read_segment(
    stream: str, subscription: Subscription, segment: ListedSegment, *, host: Host, data: DataDirectory, access: Access
) -> SegmentSummary:
    """Read a segment's events into the lake, in place of what was read of it before; what its file says of itself.

    ArchiveError where the archive cannot be read, StorageError where the disk does not take it.
    """
    began = time.monotonic()
    name = segment_name(segment)
    with replacing(data.lake.segment_path(stream, name)) as temporary, closing(WindowWriter(temporary)) as writer:
        rejected = asyncio.run(_write(History(host, subscription, access), segment, writer))
        _keep(data.segment_quarantine_path(stream, name), rejected, host)

        def describe(counts: Counts) -> SegmentSummary:
            return SegmentSummary(
                **counts.model_dump(),
                stream=stream,
                segment=name,
                host=host.name,
                checksum=segment.checksum,
                first_seq=segment.min_seq,
                last_seq=segment.max_seq,
                first_witnessed=from_us(segment.min_witnessed_us),
                last_witnessed=from_us(segment.max_witnessed_us),
                fingerprint=subscription.fingerprint,
                quarantined=len(rejected),
                seconds=time.monotonic() - began,
                finished_at=datetime.now(UTC),
                version=__version__,
            )

        return writer.finish(describe, SEGMENT_KEY)


async def _write(history: History, segment: ListedSegment, writer: WindowWriter) -> list[Unreadable]:
    rejected: list[Unreadable] = []
    async with aclosing(history.segment(segment)) as parts:
        async for part in parts:
            if part.events.num_rows:
                await asyncio.to_thread(writer.add, part.events)
            rejected += _unreadable(part, segment)
    return rejected


def _unreadable(part: Part, segment: ListedSegment) -> list[Unreadable]:
    if not part.rejected:
        return []
    times = [segment.min_witnessed_us, *part.events["time_us"].to_pylist()]
    return [Unreadable(one.message, one.reason, times[one.after]) for one in part.rejected]


def _keep(path: AnyPath, rejected: Sequence[Unreadable], host: Host) -> None:
    if not (rejected or exists(path)):
        return
    rows = quarantined(rejected, received_at=datetime.now(UTC), host=host.name, wire=ARCHIVE)
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_batches([rows], QUARANTINE_SCHEMA), temporary)
