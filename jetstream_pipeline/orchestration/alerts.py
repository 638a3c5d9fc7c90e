"""Sensors that tell people of runs that failed and of windows that are lost. How people are reached is `alerts`'s."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster import AssetRecordsFilter
from pydantic import BaseModel

from jetstream_pipeline.alerts.alert import Alert
from jetstream_pipeline.alerts.deliver import deliver
from jetstream_pipeline.alerts.targets import Targets
from jetstream_pipeline.orchestration.catch_up import LOST
from jetstream_pipeline.orchestration.metadata import ATTEMPT_TAG, STREAM_TAG
from jetstream_pipeline.streams.stream import Stream

_INTERVAL_SEC = 60
_AT_ONCE = 20
_PARTITION_TAG = "dagster/partition"
_RETRIED_TAG = "dagster/will_retry"


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
        description="Tells people of runs that failed (not of their repetitions) and of windows that are lost.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        state = _State.read(context.cursor, datetime.now(UTC))
        look = _Look(context.instance, stream, events, state)
        alerts = [*look.failures(), *look.losses()]
        # Where this fails the cursor stays, and the next look tells them again.
        deliver(alerts, targets)
        context.update_cursor(look.state.model_dump_json())
        return dg.SkipReason(f"told {', '.join(targets.names)} of {len(alerts)} things" if alerts else "all is well")

    return sensor


class _State(BaseModel):
    """Until when runs were looked at (with those of that very moment), and observations."""

    since: datetime
    told: list[str] = []
    seen: int | None = None

    @classmethod
    def read(cls, cursor: str | None, now: datetime) -> "_State":
        """What happened before the first look is nobody's news."""
        return cls.model_validate_json(cursor) if cursor else cls(since=now)


class _Look:
    """One look at what happened; `state` is what it leaves to the next."""

    def __init__(self, instance: dg.DagsterInstance, stream: Stream, events: dg.AssetKey, state: _State) -> None:
        self._instance = instance
        self._stream = stream
        self._events = events
        self.state = state

    def failures(self) -> Iterator[Alert]:
        """The stream's runs that failed for good and are not a repetition of one that was told."""
        filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=self.state.since)
        records = self._instance.get_run_records(
            filters, limit=_AT_ONCE + len(self.state.told), order_by="update_timestamp", ascending=True
        )
        for record in records:
            run, moment = record.dagster_run, record.update_timestamp.replace(tzinfo=UTC)
            if run.run_id in self.state.told:
                continue
            self.state.told = [*(self.state.told if moment == self.state.since else []), run.run_id]
            self.state.since = moment
            if self._is_ours(run) and not _is_repeated(run):
                yield self._failure(run, moment)

    def losses(self) -> Iterator[Alert]:
        """The windows that were found to be lost."""
        records = self._instance.fetch_observations(
            AssetRecordsFilter(self._events, after_storage_id=self.state.seen), limit=_AT_ONCE, ascending=True
        ).records
        for record in records:
            self.state.seen = record.storage_id
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

    def _failure(self, run: dg.DagsterRun, moment: datetime) -> Alert:
        window = run.tags.get(_PARTITION_TAG)
        return Alert(
            subject=f"{run.job_name if not run.asset_selection else self._stream.name} {window or ''} failed".strip(),
            text=_reason(self._instance, run.run_id),
            stream=self._stream.name,
            window=window,
            state="failed",
            run_id=run.run_id,
            time=moment,
        )


def _is_repeated(run: dg.DagsterRun) -> bool:
    return run.tags.get(_RETRIED_TAG) == "true" or int(run.tags.get(ATTEMPT_TAG, "1")) > 1


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the step that failed said, or the run where no step could."""
    for kind in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE):
        for record in instance.get_records_for_run(run_id, of_type=kind, limit=1, ascending=False).records:
            event = record.event_log_entry.dagster_event
            if event and event.is_step_failure:
                said = event.step_failure_data.user_failure_data
                error = event.step_failure_data.error
                return (said.description if said else None) or (error.message.strip() if error else "") or "it failed"
            if event and event.message:
                return event.message
    return "the run failed and said nothing"
