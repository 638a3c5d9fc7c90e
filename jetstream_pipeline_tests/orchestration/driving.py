"""Dagster driven in process, as its daemon would: looks of a stream's sensors, and the runs that they ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster import AssetRecordsFilter
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from sqlalchemy import event
from sqlalchemy.engine import Engine

from jetstream_pipeline.orchestration.build import stream_definitions
from jetstream_pipeline.orchestration.declaration import StreamDeclaration
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

EVENTS = dg.AssetKey(["network", "events"])
RUN_KEY = "dagster/run_key"
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("tests"), "__repository__")


def hours_ago(number: float) -> Window:
    return Window.hour(datetime.now(UTC) - timedelta(hours=number))


def declared(data: DataDirectory, *hosts: str, first: Window | None = None, **said: Any) -> Stream:
    """The stream `network`. What is said of it beyond hosts and first hour: settings, or fields of its declaration."""
    both = ("hosts", "queues")
    settings = {name: said.pop(name) for name in list(said) if name in Settings.model_fields and name not in both}
    if hosts:
        settings["hosts"] = hosts
    if first:
        settings["first_hour"] = first.start
    return StreamDeclaration(name="network", **said).stream(
        Settings(data_dir=data.root, lake=str(data.lake_root or ""), **settings), data.root
    )


class Driver:
    """A stream's definitions and an instance. Sensors keep their cursors; a run key is used once."""

    def __init__(self, stream: Stream, instance: dg.DagsterInstance) -> None:
        self.stream = stream
        self.instance = instance
        self.definitions = stream_definitions(stream)
        self.cursors: dict[str, str | None] = {}

    def look(self, sensor: str) -> list[dg.RunRequest]:
        """One evaluation. What it tells is stored; requests with a key that was used before are dropped."""
        found = self.definitions.resolve_sensor_def(sensor)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursors.get(sensor), definitions=self.definitions
        )
        with dg.partition_loading_context(dynamic_partitions_store=self.instance):
            tick = found.evaluate_tick(context)
        for happened in tick.asset_events:
            self.instance.report_runless_asset_event(happened)
        for request in tick.dynamic_partitions_requests or ():
            assert isinstance(request, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        self.cursors[sensor] = tick.cursor
        return [request for request in tick.run_requests or [] if not self._is_used(sensor, request)]

    def _is_used(self, sensor: str, request: dg.RunRequest) -> bool:
        assert request.run_key
        tags = {"dagster/sensor_name": sensor, RUN_KEY: request.run_key}
        return bool(self.instance.get_runs(dg.RunsFilter(tags=tags), limit=1))

    def consume(self, name: str) -> dict[str, bool]:
        """A look of a consumer's sensor, and its runs: the windows that were asked for, and whether that succeeded."""
        requests = self.look(f"network_{name}_for_new_windows")
        return {request.partition_key or "": self.run(f"network_{name}", request).success for request in requests}

    def run(self, job: str, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """The run that was asked for."""
        return self._execute(job, request.partition_key, {**request.tags, RUN_KEY: request.run_key or ""})

    def replay(self, *windows: Window) -> dg.ExecuteInProcessResult:
        """One run of the events' job over a window, or over the range from the first one to the last."""
        if len(windows) == 1:
            return self._execute("network_events", windows[0].key, {})
        return self._execute("network_events", None, dict(zip(RANGE, (windows[0].key, windows[-1].key), strict=True)))

    def _execute(self, job: str, partition: str | None, tags: Mapping[str, str]) -> dg.ExecuteInProcessResult:
        resolved = self.definitions.resolve_job_def(job)
        return resolved.execute_in_process(
            partition_key=partition, tags=dict(tags), instance=self.instance, raise_on_error=False
        )

    def again(self, run_id: str) -> bool:
        """Whether the same run succeeds as Dagster's retry of the one that failed or died."""
        first = self.instance.get_run_by_id(run_id)
        assert first
        job = self.definitions.resolve_job_def(first.job_name)
        run = self.instance.create_run_for_job(
            job,
            tags={**first.tags, "dagster/retry_number": "1"},
            root_run_id=first.root_run_id or run_id,
            parent_run_id=run_id,
        )
        return execute_run(InMemoryJob(job), run, self.instance).success

    def stands(self, job: str, status: str, tags: Mapping[str, str], assets: Sequence[dg.AssetKey] = ()) -> str:
        """A run of the job that stands so, without having run; its id."""
        resolved = self.definitions.resolve_job_def(job)
        run = self.instance.create_run_for_job(
            resolved,
            tags=tags,
            status=status,
            remote_job_origin=REPOSITORY.get_job_origin(job),
            asset_selection=set(assets) or None,
        )
        return run.run_id

    def materializations(self, *asset: str) -> list[dg.AssetMaterialization]:
        return materializations(self.instance, dg.AssetKey(["network", *asset]) if asset else EVENTS)

    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        """The last evaluation of each check."""
        return evaluations(self.instance)


def told(instance: dg.DagsterInstance, window: Window, content: str = "c") -> None:
    """Dagster hears that a window has this content; where that is empty, that it is there."""
    tags = {"dagster/data_version": content, "dagster/data_version_is_user_provided": "true"} if content else None
    instance.report_runless_asset_event(dg.AssetMaterialization(EVENTS, partition=window.key, tags=tags))


def materializations(instance: dg.DagsterInstance, asset: dg.AssetKey = EVENTS) -> list[dg.AssetMaterialization]:
    """An asset's, in the order of storing."""
    records = instance.fetch_materializations(AssetRecordsFilter(asset), limit=1000, ascending=True).records
    return [record.asset_materialization for record in records if record.asset_materialization]


def partitions_of(materializations: Sequence[dg.AssetMaterialization]) -> list[str | None]:
    return [materialization.partition for materialization in materializations]


def evaluations(instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    """The last evaluation of each of the events' checks."""
    found = {}
    for name in ("complete", "continuity", "volume", "quarantine", "schema", "freshness", "history"):
        records = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(EVENTS, name), limit=1)
        for record in records:
            stored = record.event.dagster_event if record.event else None
            if stored and stored.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                found[name] = stored.asset_check_evaluation_data
    return found


@contextmanager
def questions() -> Iterator[list[str]]:
    """What is asked of Dagster's storage about events and runs meanwhile."""
    found: list[str] = []

    def listen(*given: Any) -> None:
        if "FROM event_logs" in given[2] or "FROM runs" in given[2]:
            found.append(given[2])

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.value for name, value in metadata.items()}


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the step that failed says."""
    (failed,) = [one for one in result.all_events if one.is_step_failure]
    assert failed.step_failure_data.user_failure_data
    return failed.step_failure_data.user_failure_data.description or ""
