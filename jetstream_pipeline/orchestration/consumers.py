"""Who consumes new windows: assets downstream of a stream's events, and for each of them a sensor that asks for a run
whenever a window has another content than the one that it consumed last. What consuming means is the consumer's."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import dagster as dg
from dagster import AssetRecordsFilter
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.orchestration.metadata import ATTEMPT_TAG, STREAM_TAG, Metadata, content_of
from jetstream_pipeline.orchestration.partitions import hourly, windows_of
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

_RUN_CONTENT_TAG = "jetstream/content"
_RUN_KEY_TAG = "dagster/run_key"
_PENDING = 50
"""Windows that a consumer has asked for once and not consumed; those beyond wait their turn."""
_INTERVAL_SEC = 10
_FIRST_PAUSE_SEC = 60.0
_LONGEST_PAUSE_SEC = 24 * 3600.0


def consumer_asset(
    stream: Stream, name: str, events: dg.AssetKey, build: Callable[[Window], Metadata], **described: Any
) -> dg.AssetsDefinition:
    """`<stream>/<name>`: each partition is what `build` makes of the same window of the events."""

    @dg.asset(
        key=[stream.name, name],
        deps=[events],
        partitions_def=hourly(stream),
        group_name=stream.name,
        owners=list(stream.owners),
        tags={"stream": stream.name},
        output_required=False,
        **described,
    )
    def consume(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization]:
        windows = windows_of(context)
        for window in windows:
            with told_to_dagster(context):
                metadata = build(window)
            if len(windows) == 1:
                yield dg.MaterializeResult(metadata=metadata)
            else:
                yield dg.AssetMaterialization(context.asset_key, partition=window.key, metadata=metadata)

    return consume


def consumer_sensor(
    stream: Stream,
    name: str,
    events: dg.AssetKey,
    assets: list[dg.AssetsDefinition],
    wanted: Callable[[Window], bool],
) -> tuple[dg.SensorDefinition, Any]:
    """The job `<stream>_<name>` over `assets`, and the sensor that runs it once for every new content of a window.

    What failed is asked for again, after pauses that double up to a day; other windows are not held up by it, nor other
    consumers. Windows that are not `wanted`, or no longer, are passed over. The state is in the cursor and in the runs'
    tags.
    """
    job = dg.define_asset_job(
        f"{stream.name}_{name}",
        selection=dg.AssetSelection.assets(*(asset.key for asset in assets)),
        description=f"Makes {', '.join(asset.key.path[-1] for asset in assets)} of a window.",
        tags={STREAM_TAG: stream.name},
    )
    partitions = hourly(stream)

    @dg.sensor(
        name=f"{job.name}_for_new_windows",
        job=job,
        minimum_interval_seconds=_INTERVAL_SEC,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Runs {job.name} once for each new content of a window, whoever materialized it.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        look = _Look(context.instance, job.name, _State.read(context.cursor), time.time(), wanted)
        requests = [*look.again(), *look.new(events, partitions)]
        return dg.SensorResult(
            run_requests=requests,
            cursor=look.state.model_dump_json(),
            skip_reason=None if requests else look.state.told,
        )

    return sensor, job


class _Pending(BaseModel):
    """A window that was asked for and is not known to be consumed."""

    model_config = ConfigDict(frozen=True)

    content: str
    storage_id: int
    attempt: int
    asked_at: float
    """Unix seconds."""

    def run_key(self, partition: str) -> str:
        """Never used twice: a key is remembered for ever."""
        return f"{partition}:{self.storage_id}:{self.attempt}"

    @property
    def due_at(self) -> float:
        return self.asked_at + min(_FIRST_PAUSE_SEC * 2 ** min(self.attempt - 1, 20), _LONGEST_PAUSE_SEC)


class _State(BaseModel):
    """A consumer's place: the storage id of the last materialization seen, and what it has asked for since."""

    seen: int | None = None
    pending: dict[str, _Pending] = {}

    @property
    def told(self) -> str:
        """What there is to say where nothing is asked for."""
        failed = [partition for partition, pending in self.pending.items() if pending.attempt > 1]
        return f"no new window; {len(failed)} failed and wait: {', '.join(failed[:5])}" if failed else "no new window"

    @classmethod
    def read(cls, cursor: str | None) -> Self:
        return cls.model_validate_json(cursor) if cursor else cls()


class _Look:
    """One look at what a consumer has to do; `state` is what it leaves to the next one."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        job: str,
        state: _State,
        now: float,
        wanted: Callable[[Window], bool] = lambda _: True,
    ) -> None:
        self._instance = instance
        self._job = job
        self._wanted = wanted
        self._now = now
        self.state = state

    def again(self) -> Iterator[dg.RunRequest]:
        """Requests for what was asked for and failed; what succeeded, or nobody wants, is pending no more."""
        runs = self._runs_by_key()
        for partition, pending in list(self.state.pending.items()):
            run = runs.get(pending.run_key(partition))
            if (run and run.is_success) or not self._wanted(Window.from_key(partition)):
                del self.state.pending[partition]
            elif run and not run.is_finished:
                continue
            elif pending.due_at <= self._now:
                yield self._ask(partition, pending.content, pending.storage_id, pending.attempt + 1)

    def new(self, events: dg.AssetKey, partitions: dg.PartitionsDefinition) -> Iterator[dg.RunRequest]:
        """Requests for windows whose content is another one than that consumed last, oldest materialization first."""
        room = _PENDING - sum(pending.attempt == 1 for pending in self.state.pending.values())
        if room <= 0:
            return
        records = self._instance.fetch_materializations(
            AssetRecordsFilter(events, after_storage_id=self.state.seen), limit=room, ascending=True
        ).records
        latest = {record.partition_key: record for record in records if record.partition_key}
        for partition, record in latest.items():
            content = content_of(record.asset_materialization)
            # A window that the partitions no longer reach (the stream's start was moved) is nobody's.
            known = partitions.has_partition_key(partition) and self._wanted(Window.from_key(partition))
            if known and not self._has(partition, content):
                yield self._ask(partition, content, record.storage_id, 1)
        if records:
            self.state.seen = max(record.storage_id for record in records)

    def _has(self, partition: str, content: str) -> bool:
        """Whether this very content was consumed last, or is asked for. Content that is not known is new."""
        if not content:
            return False
        if pending := self.state.pending.get(partition):
            return pending.content == content
        filters = dg.RunsFilter(
            job_name=self._job, tags={"dagster/partition": partition}, statuses=[dg.DagsterRunStatus.SUCCESS]
        )
        return any(run.tags.get(_RUN_CONTENT_TAG) == content for run in self._instance.get_runs(filters, limit=1))

    def _ask(self, partition: str, content: str, storage_id: int, attempt: int) -> dg.RunRequest:
        pending = _Pending(content=content, storage_id=storage_id, attempt=attempt, asked_at=self._now)
        self.state.pending[partition] = pending
        tags = {_RUN_CONTENT_TAG: content or "unknown", ATTEMPT_TAG: str(attempt)}
        return dg.RunRequest(run_key=pending.run_key(partition), partition_key=partition, tags=tags)

    def _runs_by_key(self) -> Mapping[str, dg.DagsterRun]:
        keys = [pending.run_key(partition) for partition, pending in self.state.pending.items()]
        if not keys:
            return {}
        runs = self._instance.get_runs(dg.RunsFilter(job_name=self._job, tags={_RUN_KEY_TAG: keys}))
        return {run.tags[_RUN_KEY_TAG]: run for run in reversed(list(runs))}
