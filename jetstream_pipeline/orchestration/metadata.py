"""What Dagster's UI shows of windows and tables: metadata, column schemas, lineage, progress lines. Nothing is computed
here that the core does not know already."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

import dagster as dg

from jetstream_pipeline.replay.reading import Progress
from jetstream_pipeline.storage.event_layout import FILE_DESCRIPTIONS, FILE_SCHEMA
from jetstream_pipeline.storage.files import size
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.tables.definitions import Table
from jetstream_pipeline.window import Window

Metadata = dict[str, dg.MetadataValue]

CONTENT_TAG = "dagster/data_version"
"""Dagster's tag for what identifies an asset's content: ours is a window's `content`."""
ATTEMPT_TAG = "jetstream/attempt"
"""Our tag for how often a sensor has asked for what a run does."""
STREAM_TAG = "jetstream/stream"
"""Our tag for whose run it is."""
URGENT = {"dagster/priority": "1"}
"""Of runs that go before those of backfills: what they are for may soon be lost."""
_OURS_TAG = "dagster/data_version_is_user_provided"

_PROGRESS_SEC = 10.0
_SHARES = 8
"""Collections whose share is told, each a figure that plots itself over time."""
_QUOTED = re.compile(r"'[^']*'")
_WORD = re.compile(r"[a-z_]+")


def logged(context: dg.OpExecutionContext | dg.AssetExecutionContext, window: Window) -> Callable[[Progress], None]:
    """Tells every few seconds how far a replay has come, and at once what one would want to know at once."""
    told = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal told
        if progress.note:
            context.log.warning(f"{window}: {progress.note}")
        if time.monotonic() - told >= _PROGRESS_SEC:
            told = time.monotonic()
            context.log.info(_line(window, progress))

    return report


def _line(window: Window, progress: Progress) -> str:
    rate = progress.events / progress.seconds if progress.seconds else 0.0
    lag = (time.time() - progress.position_us / 1e6) / 3600
    behind = f", {lag:,.1f} h behind now" if progress.position_us else ""
    return f"{window}: {progress.share(window):.0%}, {progress.events:,} events, {rate:,.0f}/s{behind}"


def window_metadata(summary: WindowSummary, path: AnyPath | None = None) -> Metadata:
    """What one wants to know of a window, and of its file where that stands. Figures plot themselves over time."""
    file: Metadata = {"path": dg.MetadataValue.path(str(path)), "bytes": _int(size(path))} if path else {}
    proof = summary.proof
    times = {"first_time": summary.first_time, "last_time": summary.last_time, "position": proof.position}
    shown = {"start_shown_by": proof.start_shown_by, "end_shown_by": proof.end_shown_by}
    lag = (summary.finished_at - summary.end).total_seconds()
    return {
        "dagster/partition_row_count": _int(summary.events),
        "state": dg.MetadataValue.text(summary.state.value),
        "reason": dg.MetadataValue.text(summary.reason),
        "events_per_second": dg.MetadataValue.float(round(summary.events_per_second, 1)),
        "seconds": dg.MetadataValue.float(round(summary.seconds, 1)),
        "lag_minutes": dg.MetadataValue.float(round(lag / 60, 1)),
        "host": dg.MetadataValue.text(summary.host),
        "counts_by_kind": dg.MetadataValue.json(summary.counts_by_kind),
        "counts_by_collection": dg.MetadataValue.json(summary.counts_by_collection),
        **_shares(summary),
        "reconnections": _int(max(len(proof.connections) - 1, 0)),
        "repeats": _int(proof.repeats),
        "resumptions": _int(proof.resumptions),
        "quarantined": _int(summary.quarantined),
        "repaired": _int(summary.repaired),
        **{name: dg.MetadataValue.text(text) for name, text in shown.items() if text},
        **{name: dg.MetadataValue.timestamp(moment) for name, moment in times.items() if moment},
        **file,
    }


def _shares(summary: WindowSummary) -> Metadata:
    """The largest collections' shares of the events, in percent."""
    counts = sorted(summary.counts_by_collection.items(), key=lambda item: -item[1])
    return {
        f"percent {name.removeprefix('app.bsky.')}": dg.MetadataValue.float(round(100 * count / summary.events, 2))
        for name, count in counts[:_SHARES]
        if name
    }


def materialization(
    events: dg.AssetKey, window: Window, summary: WindowSummary, metadata: Mapping[str, dg.MetadataValue]
) -> dg.AssetMaterialization:
    """A window as Dagster keeps it: its content is the version that consumers compare."""
    return dg.AssetMaterialization(events, partition=window.key, metadata=metadata, tags=content_tags(summary.content))


def content_tags(content: str) -> dict[str, str] | None:
    """The tags of a materialization that say what identifies its content."""
    return {CONTENT_TAG: content, _OURS_TAG: "true"} if content else None


def content_of(materialization: dg.AssetMaterialization | None) -> str:
    """A window's content as it was told; empty where it was not known. A version that Dagster made up says nothing."""
    tags = (materialization.tags if materialization else None) or {}
    return tags.get(CONTENT_TAG, "") if tags.get(_OURS_TAG) == "true" else ""


def figures(values: Mapping[str, object]) -> Metadata:
    """Plain figures and texts as metadata."""
    return {name: _value(value) for name, value in values.items()}


def _value(value: object) -> dg.MetadataValue:
    match value:
        case bool():
            return dg.MetadataValue.bool(value)
        case int():
            return _int(value)
        case float():
            return dg.MetadataValue.float(round(value, 4))
        case dict() | list():
            return dg.MetadataValue.json(value)
        case _:
            return dg.MetadataValue.text(str(value))


def _int(value: int) -> dg.MetadataValue:
    return dg.MetadataValue.int(value)


def events_schema() -> dg.TableSchema:
    """The columns of a window's events."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                str(field.type),
                description=FILE_DESCRIPTIONS[field.name],
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in FILE_SCHEMA
        ]
    )


def table_schema(table: Table) -> dg.TableSchema:
    """The columns of a typed table."""
    return dg.TableSchema(
        [dg.TableColumn(column.name, column.type, description=column.description) for column in table.columns]
    )


def table_lineage(table: Table, events: dg.AssetKey) -> dg.TableColumnLineage:
    """Which columns of the events each of a table's columns is taken from, as its SQL names them."""
    sources = {**{name: name for name in FILE_SCHEMA.names}, "doc": table.body}
    deps = {}
    for column in table.columns:
        words = _WORD.findall(_QUOTED.sub("", column.sql))
        names = dict.fromkeys(sources[word] for word in words if word in sources)
        deps[column.name] = [dg.TableColumnDep(events, name) for name in names]
    return dg.TableColumnLineage(deps)
