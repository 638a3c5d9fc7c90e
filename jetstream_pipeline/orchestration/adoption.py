"""Windows that came into the lake without Dagster (by the command line, or in a run that was killed before it could say
so), made known to it, so that consumers see them too. The lake is the truth."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import dagster as dg
from dagster import AssetRecordsFilter

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.orchestration.metadata import content_of, materialization, window_metadata
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

_AT_ONCE = 50
_LOOKED_AT = 2_000
"""Files in one look: each takes some milliseconds, and a sensor's look must end within a minute."""
_LISTED_LATE_NS = 900 * 1_000_000_000
"""How much later than others, put after it, a store may list an object."""


def adoptions(
    instance: dg.DagsterInstance,
    stream: Stream,
    events: dg.AssetKey,
    under_way: AbstractSet[Window],
    since_ns: int,
    first: datetime,
) -> tuple[list[dg.AssetMaterialization], int]:
    """Materializations of the windows that were put into the lake at `since_ns` (unix nanoseconds) or later and that
    Dagster does not know with this content; and until when everything has been looked at, for the next time. `first`:
    where the stream's partitions begin."""
    lake = stream.data.lake
    late_ns = 0 if isinstance(lake.root, Path) else _LISTED_LATE_NS
    changed = [file for file in lake.listed(stream.name) if file.moment_ns >= since_ns - late_ns]
    # Files that came together may have the same moment. Those that may have been seen before hold up no others.
    changed.sort(key=lambda file: (file.moment_ns < since_ns, file.moment_ns, str(file.path)))
    found: list[dg.AssetMaterialization] = []
    until = None
    for file in changed[:_LOOKED_AT]:
        moment, window = file.moment_ns, hour_of(file.path)
        if window in under_way or window.start < first:
            # Its run will say so, or a later look: the partitions reach it when the definitions are loaded again.
            until = min(until or moment, moment)
            continue
        if len(found) == _AT_ONCE:
            break
        since_ns = max(since_ns, moment)
        with suppress(PipelineError):
            summary = read_summary(file.path)
            if summary.content != _known_content(instance, events, window):
                found.append(materialization(events, window, summary, window_metadata(summary, file.path)))
    return found, until or since_ns


def _known_content(instance: dg.DagsterInstance, events: dg.AssetKey, window: Window) -> str | None:
    """None where Dagster does not know the window."""
    filters = AssetRecordsFilter(events, asset_partitions=[window.key])
    records = instance.fetch_materializations(filters, limit=1).records
    return content_of(records[0].asset_materialization) if records else None
