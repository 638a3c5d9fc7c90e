"""Sensors that tell people of runs that failed and of windows that are lost. How people are reached is `alerts`'s."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import AssetRecordsFilter
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.alerts.alert import Alert
from jetstream_pipeline.alerts.deliver import deliver
from jetstream_pipeline.alerts.errors import AlertError
from jetstream_pipeline.alerts.targets import Targets
from jetstream_pipeline.orchestration.catch_up import LOST
from jetstream_pipeline.orchestration.metadata import STREAM_TAG
from jetstream_pipeline.orchestration.under_way import RANGE_TAGS
from jetstream_pipeline.streams.stream import Stream

_INTERVAL_SEC = 60
_AT_ONCE = 20
_PARTITION_TAG = "dagster/partition"
_RETRIED_TAG = "dagster/will_retry"
_ASSET_JOB = "__ASSET_JOB"
"""Dagster's name for the job of runs of a selection of assets."""
_AGAIN_AFTER = timedelta(hours=24)
_REMEMBERED = 500
"""Failures that are not told again; a cursor is kept with each look."""
_INSTANT = timedelta(microseconds=1)


def alert_sensors(stream: Stream, events: dg.AssetKey) -> list[dg.SensorDefinition]:
    """A sensor for each way that the settings name; none where they name none."""
    targets = stream.settings.alert_targets()
    ways = {"webhook": Targets(webhook=targets.webhook), "mail": Targets(mail=targets.mail)}
    return [_sensor(stream, events, way, only) for way, only in ways.items() if only.names]


def _sensor(stream: Stream, events: dg.AssetKey, way: str, targets: Targets) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{stream.name}_alerts_by_{way}",
        minimum_interval_seconds=_INTERVAL_SEC,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people of runs that failed (once a day what fails again) and of windows that are lost.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        look = _Look(context.instance, stream, events, context.cursor)
        news = [(alert, look.state) for alert in look.news()]
        state, said = look.state, f"told {', '.join(targets.names)} of {len(news)} things" if news else "all is well"
        try:
            deliver([alert for alert, _ in news], targets)
        except AlertError as error:
            # A look that fails is seen in the UI, and keeps no cursor: what it told would be told again.
            if not error.settled:
                raise
            context.log.error(str(error))
            state, said = news[error.settled - 1][1] if error.passing else state, str(error)
        context.update_cursor(state.model_dump_json())
        return dg.SkipReason(said)

    return sensor


class _State(BaseModel):
    """Until when runs were looked at (with those of that very moment), and observations; which failures were told."""

    model_config = ConfigDict(frozen=True)

    since: datetime
    told: tuple[str, ...] = ()
    seen: int | None = None
    failures: dict[str, datetime] = {}
    """When each was told last, by what failed and its window; those that are too old to matter are left out."""

    def with_run(self, run_id: str, moment: datetime) -> "_State":
        """The state when this run was looked at too."""
        told = (*(self.told if moment == self.since else ()), run_id)
        return self.model_copy(update={"since": moment, "told": told})

    def with_failure(self, name: str) -> "_State":
        """The state when this was told, now."""
        kept = {other: at for other, at in self.failures.items() if other != name and self.since - at < _AGAIN_AFTER}
        newest = list(kept.items())[-(_REMEMBERED - 1) :]
        return self.model_copy(update={"failures": {**dict(newest), name: self.since}})

    def is_told(self, name: str) -> bool:
        return name in self.failures and self.since - self.failures[name] < _AGAIN_AFTER


class _Look:
    """One look at what happened; `state` is what it leaves to the next, when all that it has yielded is told."""

    def __init__(self, instance: dg.DagsterInstance, stream: Stream, events: dg.AssetKey, cursor: str | None) -> None:
        self._instance = instance
        self._stream = stream
        self._events = events
        self.state = _State.model_validate_json(cursor) if cursor else self._beginning()

    def _beginning(self) -> _State:
        """What happened before the first look is nobody's news."""
        last = self._instance.fetch_observations(AssetRecordsFilter(self._events), limit=1).records
        return _State(since=datetime.now(UTC), seen=last[0].storage_id if last else None)

    def news(self) -> Iterator[Alert]:
        """Failures, then losses, each in the order in which it came."""
        yield from self._failures()
        yield from self._losses()

    def _failures(self) -> Iterator[Alert]:
        """The stream's runs that failed for good, but for what was told of another run already."""
        # Dagster's "after" is without the moment itself, which may have more runs than were looked at.
        since = self.state.since - _INSTANT
        filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
        records = self._instance.get_run_records(
            filters, limit=_AT_ONCE + len(self.state.told), order_by="update_timestamp", ascending=True
        )
        for record in records:
            run, moment = record.dagster_run, record.update_timestamp.replace(tzinfo=UTC)
            if run.run_id in self.state.told:
                continue
            self.state = self.state.with_run(run.run_id, moment)
            name = self._name(run)
            if self._is_ours(run) and run.tags.get(_RETRIED_TAG) != "true" and not self.state.is_told(name):
                self.state = self.state.with_failure(name)
                yield self._failure(run, moment)

    def _losses(self) -> Iterator[Alert]:
        """The windows that were found to be lost."""
        records = self._instance.fetch_observations(
            AssetRecordsFilter(self._events, after_storage_id=self.state.seen), limit=_AT_ONCE, ascending=True
        ).records
        for record in records:
            self.state = self.state.model_copy(update={"seen": record.storage_id})
            observation = record.asset_observation
            if observation and observation.tags.get(LOST):
                yield Alert(
                    subject=f"{self._stream.name} {record.partition_key} is lost",
                    text=observation.description or "",
                    stream=self._stream.name,
                    window=record.partition_key,
                    state="lost",
                    time=datetime.fromtimestamp(record.timestamp, UTC),
                )

    def _is_ours(self, run: dg.DagsterRun) -> bool:
        return run.tags.get(STREAM_TAG) == self._stream.name or any(
            key.path[0] == self._stream.name for key in run.asset_selection or ()
        )

    def _name(self, run: dg.DagsterRun) -> str:
        """What failed, and its window: the same for the same work, whoever asked for it."""
        ours = sorted(key.to_user_string() for key in run.asset_selection or () if key.path[0] == self._stream.name)
        what = run.job_name
        if ours and run.job_name.startswith(_ASSET_JOB):
            what = f"{self._stream.name}_events" if ours == [self._events.to_user_string()] else ", ".join(ours)
        return f"{what} {_window(run) or ''}".strip()

    def _failure(self, run: dg.DagsterRun, moment: datetime) -> Alert:
        return Alert(
            subject=f"{self._name(run)} failed",
            text=_reason(self._instance, run.run_id),
            stream=self._stream.name,
            window=_window(run),
            state="failed",
            run_id=run.run_id,
            time=moment,
        )


def _window(run: dg.DagsterRun) -> str | None:
    """A run's partition, or the range of its partitions; None where it has none."""
    first, last = (run.tags.get(name) for name in RANGE_TAGS)
    if first and last:
        return first if first == last else f"{first} to {last}"
    return run.tags.get(_PARTITION_TAG)


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the step that failed said, or the run where no step could."""
    for kind in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE):
        for record in instance.get_records_for_run(run_id, of_type=kind, limit=1, ascending=False).records:
            event = record.event_log_entry.dagster_event
            if event and event.is_step_failure:
                said = event.step_failure_data.user_failure_data
                error = event.step_failure_data.error
                # What is no Failure, Dagster wraps.
                thrown = error and (error.cause or error)
                return (said.description if said else None) or (thrown.message.strip() if thrown else "") or "it failed"
            if event and event.message:
                return event.message
    return "the run failed and said nothing"
