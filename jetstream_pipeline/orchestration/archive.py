"""The archive of a stream's host as an asset, a partition for each segment, and the sensor that asks for segments that
are new or have changed. Reading one is `replay.segments`'."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline import __version__
from jetstream_pipeline.archive.answers import ListedSegment
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.orchestration.events import pool
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.metadata import (
    ATTEMPT_TAG,
    STREAM_TAG,
    Metadata,
    content_tags,
    events_schema,
    figures,
)
from jetstream_pipeline.orchestration.under_way import NOT_ENDED, PARTITION_TAG
from jetstream_pipeline.replay.segments import segment_name
from jetstream_pipeline.storage.files import Version, size, version
from jetstream_pipeline.storage.lake import ARCHIVE
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.summary import SegmentSummary, read_segment_summary
from jetstream_pipeline.streams.catching_up import Attempt
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.warehouse.database import refresh

_INTERVAL_SEC = 60
_AT_ONCE = 4
"""Segments that the sensor has asked for and that are not there yet."""


def archive_definitions(stream: Stream) -> dg.Definitions:
    """`<stream>/archive`, its job and its sensor."""
    asset = _asset(stream)
    job = dg.define_asset_job(
        f"{stream.name}_archive",
        selection=dg.AssetSelection.assets(asset.key),
        description="Reads a segment of the host's archive.",
        tags={STREAM_TAG: stream.name},
    )
    return dg.Definitions(assets=[asset], jobs=[job], sensors=[_sensor(stream, job)])


def _segments(stream: Stream) -> dg.DynamicPartitionsDefinition:
    return dg.DynamicPartitionsDefinition(name=f"{stream.name}_segments")


def _asset(stream: Stream) -> dg.AssetsDefinition:
    @dg.asset(
        key=[stream.name, "archive"],
        partitions_def=_segments(stream),
        group_name=stream.name,
        kinds={"jetstream", "parquet"},
        owners=list(stream.owners),
        tags={"stream": stream.name},
        code_version=__version__,
        description="Every event of the stream in a sealed segment of the host's archive: one Parquet file.",
        metadata={
            "dagster/column_schema": events_schema(),
            "dagster/table_name": "archived_events",
            "dagster/storage_kind": "parquet",
        },
        pool=pool(stream),
        output_required=False,
    )
    def archive(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization]:
        for name in sorted(context.partition_keys):
            with told_to_dagster(context):
                summary = stream.read_segment(name)
                refresh(stream.data)
            if lag := stream.follow(ARCHIVE):
                context.log.warning(str(lag))
            yield dg.AssetMaterialization(
                context.asset_key,
                partition=name,
                metadata=_metadata(stream, summary),
                tags=content_tags(summary.content),
            )

    return archive


def _metadata(stream: Stream, summary: SegmentSummary) -> Metadata:
    path = stream.data.lake.segment_path(stream.name, summary.segment)
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(summary.events),
        "path": dg.MetadataValue.path(str(path)),
        "first_witnessed": dg.MetadataValue.timestamp(summary.first_witnessed),
        "last_witnessed": dg.MetadataValue.timestamp(summary.last_witnessed),
        **figures(
            {
                "bytes": size(path),
                "host": summary.host,
                "checksum": summary.checksum,
                "counts_by_kind": summary.counts_by_kind,
                "counts_by_collection": summary.counts_by_collection,
                "quarantined": summary.quarantined,
                "seconds": summary.seconds,
            }
        ),
    }


class _Ask(BaseModel):
    """Which version of a segment was asked for."""

    model_config = ConfigDict(frozen=True)

    version: str
    attempt: Attempt


class _State(BaseModel):
    """What one look leaves to the next."""

    asked: dict[str, _Ask] = {}


def _sensor(stream: Stream, job: Any) -> dg.SensorDefinition:
    """`<stream>_archive_segments`: asks for the segments that the lake has not as the archive has them, oldest first; a
    few at a time, and those that failed again after longer pauses."""
    segments = _segments(stream)
    partitions = f"{stream.name}_segments"

    @dg.sensor(
        name=f"{stream.name}_archive_segments",
        job=job,
        minimum_interval_seconds=_INTERVAL_SEC,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for segments of the archive that are new, or that their host has compacted.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        state = _State.model_validate_json(context.cursor) if context.cursor else _State()
        try:
            _, listed = stream.segments()
        except PipelineError as error:
            return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
        versions = _versions(stream, listed)
        known = set(context.instance.get_dynamic_partitions(partitions))
        runs = context.instance.get_runs(dg.RunsFilter(job_name=job.name, statuses=NOT_ENDED))
        under_way = {run.tags.get(PARTITION_TAG) for run in runs}
        missing = {name: wanted for name, wanted in versions.items() if _standing(stream, name) != wanted}
        # A segment that is new becomes a partition now, and is asked for with the next look.
        askable = {name: wanted for name, wanted in missing.items() if name in known}
        requests = list(_requests(state, askable, under_way, datetime.now(UTC)))
        state.asked = {name: ask for name, ask in state.asked.items() if name in missing}
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[segments.build_add_request([name for name in versions if name not in known])],
            cursor=state.model_dump_json(),
            skip_reason=None if requests else f"nothing to ask for now; {len(missing)} segments are not there yet",
        )

    return sensor


def _versions(stream: Stream, listed: Sequence[ListedSegment]) -> dict[str, str]:
    """What the lake is to hold: each segment as it is now, by the stream's filter as it is now."""
    fingerprint = stream.subscription().fingerprint
    return {segment_name(segment): f"{segment.checksum}:{fingerprint}" for segment in listed}


def _standing(stream: Stream, name: str) -> str | None:
    """What the lake holds of a segment, in the same terms."""
    path = stream.data.lake.segment_path(stream.name, name)
    at = version(path)
    return _version_of(path, at) if at else None


@lru_cache(maxsize=100_000)
def _version_of(path: AnyPath, _: Version) -> str | None:
    """Looked up again only where it is another file."""
    with suppress(PipelineError):
        summary = read_segment_summary(path)
        return f"{summary.checksum}:{summary.fingerprint}"
    return None


def _requests(
    state: _State, missing: Mapping[str, str], under_way: AbstractSet[str | None], now: datetime
) -> Iterator[dg.RunRequest]:
    tried = {name: ask.attempt for name, ask in state.asked.items() if ask.version == missing.get(name)}
    due = [name for name in missing if name not in under_way and (name not in tried or tried[name].next_at <= now)]
    # Those that failed before wait for the others.
    due.sort(key=lambda name: name in tried)
    for name in due[: max(_AT_ONCE - len(under_way), 0)]:
        number = tried[name].number + 1 if name in tried else 1
        state.asked[name] = _Ask(version=missing[name], attempt=Attempt(number, now))
        yield dg.RunRequest(
            run_key=f"{name}:{missing[name]}:{now.timestamp():.0f}:{number}",
            partition_key=name,
            tags={ATTEMPT_TAG: str(number)},
        )
