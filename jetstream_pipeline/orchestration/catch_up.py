"""The sensor that makes a stream whole again by itself: it asks for what is missing, makes known what came without
Dagster, and says what is lost. Which windows are asked for is `streams.catching_up`'s to plan."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import BaseModel

from jetstream_pipeline.orchestration.adoption import adoptions
from jetstream_pipeline.orchestration.checks import stream_checks
from jetstream_pipeline.orchestration.events import pool
from jetstream_pipeline.orchestration.metadata import ATTEMPT_TAG, URGENT
from jetstream_pipeline.orchestration.under_way import windows_under_way
from jetstream_pipeline.streams.catching_up import Attempt, Known, Plan, plan
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

LOST = "jetstream/lost"
"""The tag of an observation that a window is lost."""

_INTERVAL_SEC = 30
_AT_ONCE = 8
"""Windows that are under way at once because of the sensor."""
_TOLD_AT_ONCE = 50
_CHECKED_EVERY = timedelta(hours=1)


class _State(BaseModel):
    """What one look leaves to the next."""

    asked: dict[str, Attempt] = {}
    adopted_ns: int = 0
    lost_until: str = ""
    """The newest window that was said to be lost."""
    checked_at: datetime | None = None
    checked: str = ""
    """What the checks said then."""


def catch_up_sensor(stream: Stream, events: dg.AssetKey, job: Any) -> dg.SensorDefinition:
    """`<stream>_catch_up`: asks `job` for the windows that are missing, were incomplete or failed, oldest first, as
    long as some host may still have them (`JETSTREAM_LOOK_BACK_HOURS`); a few at a time, again after longer pauses."""

    # The lake may reach further back by and by; the partitions do so when they are defined again.
    first = stream.first_hour()

    @dg.sensor(
        name=f"{stream.name}_catch_up",
        job=job,
        minimum_interval_seconds=_INTERVAL_SEC,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for windows that are missing or failed while a host may still have them; says what is lost.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def, "a sensor is evaluated in its repository"
        state = _State.model_validate_json(context.cursor) if context.cursor else _State()
        under_way = windows_under_way(context.instance, context.repository_def, events, job.name)
        _open_pool(context.instance, stream)
        look = _Look(stream, events, state, datetime.now(UTC), first)
        adopted, look.state.adopted_ns = adoptions(context.instance, stream, events, under_way, state.adopted_ns, first)
        planned = look.plan(under_way)
        requests = list(look.requests(planned))
        happened: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation]
        happened = [*adopted, *look.losses(planned, under_way), *look.checks(planned)]
        return dg.SensorResult(
            run_requests=requests,
            asset_events=happened,
            cursor=look.state.model_dump_json(),
            skip_reason=None if requests else _told(planned),
        )

    return sensor


class _Look:
    """One look at a stream; `state` is what it leaves to the next."""

    def __init__(self, stream: Stream, events: dg.AssetKey, state: _State, now: datetime, first: datetime) -> None:
        """`first`: where the stream's partitions begin."""
        self._stream = stream
        self._first = first
        self._events = events
        self._now = now
        self.state = state

    def plan(self, under_way: set[Window]) -> Plan:
        """What is to be asked for, and told to be lost, is asked of its own file: a store may list a window late."""
        lake, name = self._stream.data.lake, self._stream.name
        first, whole = max(self._first, self._stream.beginning(self._now)), lake.whole(name)
        while True:
            planned = self._plan(first, whole, under_way)
            unlisted = {window for window in (*planned.ask, *self._untold(planned)) if lake.has(name, window)}
            if not unlisted:
                return planned
            whole |= unlisted

    def _plan(self, first: datetime, whole: set[Window], under_way: set[Window]) -> Plan:
        settings = self._stream.settings
        attempts = {Window.from_key(key): attempt for key, attempt in self.state.asked.items()}
        return plan(
            first,
            self._now,
            Known(whole, under_way, attempts),
            settle=settings.settle,
            look_back=settings.look_back,
            most=_AT_ONCE,
        )

    def _untold(self, planned: Plan) -> list[Window]:
        """The next windows that nobody was told are lost."""
        return [window for window in planned.lost if window.key > self.state.lost_until][:_TOLD_AT_ONCE]

    def requests(self, planned: Plan) -> Iterator[dg.RunRequest]:
        oldest = (self._now - self._stream.settings.look_back).isoformat()
        asked = self.state.asked
        self.state.asked = {key: ask for key, ask in asked.items() if Window.from_key(key).start.isoformat() >= oldest}
        for window in planned.ask:
            number = asked[window.key].number + 1 if window.key in asked else 1
            self.state.asked[window.key] = Attempt(number, self._now)
            yield dg.RunRequest(
                run_key=f"{window.key}:{self._now.timestamp():.0f}:{number}",
                partition_key=window.key,
                tags={ATTEMPT_TAG: str(number), **URGENT},
            )

    def losses(self, planned: Plan, under_way: set[Window]) -> Iterator[dg.AssetObservation]:
        """What no host has any more, told once for each window."""
        untold = self._untold(planned)
        # One that a run is at may be lost too, by its failing: those after it wait, so that it is not left out.
        awaited = min((window for window in under_way if window.key > self.state.lost_until), default=None)
        untold = [window for window in untold if awaited is None or window < awaited]
        for window in untold:
            self.state.lost_until = window.key
            yield dg.AssetObservation(
                self._events,
                partition=window.key,
                description=f"{window} is lost: by JETSTREAM_LOOK_BACK_HOURS, no host keeps events for so long",
                metadata={"state": "lost"},
                tags={LOST: "true"},
            )

    def checks(self, planned: Plan) -> Iterator[dg.AssetCheckEvaluation]:
        """What is to be said of the stream as a whole, when it has changed, and every hour."""
        evaluations = stream_checks(self._stream, self._events, planned, self._now)
        said = repr([(evaluation.check_name, evaluation.passed, evaluation.description) for evaluation in evaluations])
        at = self.state.checked_at
        if said != self.state.checked or at is None or self._now - at >= _CHECKED_EVERY:
            self.state.checked, self.state.checked_at = said, self._now
            yield from evaluations


def _open_pool(instance: dg.DagsterInstance, stream: Stream) -> None:
    """Let as many windows be replayed at once as the stream has hosts, where nobody has set another limit."""
    storage = instance.event_log_storage
    limits = {limit.name: limit for limit in storage.get_pool_limits()}
    standing = limits.get(pool(stream))
    if standing is None or standing.from_default:
        storage.set_concurrency_slots(pool(stream), len(stream.hosts))


def _told(planned: Plan) -> str:
    return f"nothing to ask for now; {len(planned.waiting)} windows wait, {len(planned.lost)} are lost"
