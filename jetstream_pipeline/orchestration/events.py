"""The asset of a stream's windows. Replaying is `replay`'s; here its result becomes Dagster's."""

import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from jetstream_pipeline.events.schema import EVENT_DESCRIPTIONS, EVENT_SCHEMA
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.partitions import hourly
from jetstream_pipeline.replay.reading import Progress
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window

_PROGRESS_SEC = 10.0


def events_asset(stream: str, subscription: Subscription, settings: Settings) -> dg.AssetsDefinition:
    """`<stream>/events`: each partition is one window's file in the lake."""

    @dg.asset(
        key=[stream, "events"],
        partitions_def=hourly(settings),
        group_name=stream,
        kinds={"parquet"},
        description="Every event of the stream in an hour, replayed from Jetstream: one Parquet file.",
        metadata={"dagster/column_schema": _column_schema()},
        retry_policy=dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL),
    )
    def events(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        window = Window.from_key(context.partition_key)
        with told_to_dagster():
            data = DataDirectory(settings.data_dir)
            summary = replay_window(
                stream,
                subscription,
                window,
                hosts=settings.parsed_hosts(),
                data=data,
                settle=settings.settle,
                skew=settings.host_skew,
                on_progress=logged(context, window),
            )
            refresh(data)
        if not summary.state.is_whole:
            raise dg.Failure(
                f"{window} is {summary.state}: {summary.reason}", metadata=window_metadata(summary), allow_retries=False
            )
        return dg.MaterializeResult(metadata=window_metadata(summary, data.lake.events_path(stream, window)))

    return events


def logged(context: dg.OpExecutionContext | dg.AssetExecutionContext, window: Window) -> Callable[[Progress], None]:
    told = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal told
        if progress.note:
            context.log.warning(progress.note)
        if time.monotonic() - told >= _PROGRESS_SEC:
            told = time.monotonic()
            rate = progress.events / progress.seconds
            context.log.info(f"{progress.share(window):.0%}, {progress.events:,} events, {rate:,.0f}/s")

    return report


def window_metadata(summary: WindowSummary, path: Path | None = None) -> dict[str, dg.MetadataValue]:
    """What one wants to know of a window, and of its file where that stands."""
    file = {"path": dg.MetadataValue.path(path), "bytes": dg.MetadataValue.int(path.stat().st_size)} if path else {}
    proof = summary.proof
    times = {"first_time": summary.first_time, "last_time": summary.last_time, "position": proof.position}
    shown = {"start_shown_by": proof.start_shown_by, "end_shown_by": proof.end_shown_by}
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(summary.events),
        "state": dg.MetadataValue.text(summary.state.value),
        "events_per_second": dg.MetadataValue.float(round(summary.events_per_second, 1)),
        "host": dg.MetadataValue.text(summary.host),
        "counts_by_kind": dg.MetadataValue.json(summary.counts_by_kind),
        "counts_by_collection": dg.MetadataValue.json(summary.counts_by_collection),
        "connections": dg.MetadataValue.int(len(proof.connections)),
        "repeats": dg.MetadataValue.int(proof.repeats),
        "resumptions": dg.MetadataValue.int(proof.resumptions),
        "quarantined": dg.MetadataValue.int(summary.quarantined),
        "repaired": dg.MetadataValue.int(summary.repaired),
        **{name: dg.MetadataValue.text(text) for name, text in shown.items() if text},
        **{name: dg.MetadataValue.timestamp(moment) for name, moment in times.items() if moment},
        **file,
    }


def _column_schema() -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                str(field.type),
                description=EVENT_DESCRIPTIONS[field.name],
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in EVENT_SCHEMA
        ]
    )
