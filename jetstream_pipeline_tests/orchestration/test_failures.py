"""What may pass is tried again, what will not is not."""

import dagster as dg
import pytest

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.jetstream.errors import JetstreamError, Refused
from jetstream_pipeline.orchestration import failures
from jetstream_pipeline.orchestration.failures import failure, told_to_dagster
from jetstream_pipeline.replay.replay import NotSettled
from jetstream_pipeline.storage.errors import Damaged, WindowBusy

PASSING = [JetstreamError("host is down"), NotSettled("too early"), WindowBusy("another run is at it")]
LASTING = [Refused("host refuses"), InvalidInput("not a collection"), Damaged("not ours")]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_PAUSE_SEC", 0.01)


def executed(*errors: Exception | None, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
    """A step that fails so at each of its attempts, and succeeds at last; `tags` are its run's."""
    left = list(errors)

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        with told_to_dagster(context):
            if error := left.pop(0):
                raise error

    @dg.job
    def job() -> None:
        step()

    return job.execute_in_process(raise_on_error=False, tags=tags)


def attempts(result: dg.ExecuteInProcessResult) -> int:
    return 1 + len([event for event in result.all_events if event.is_step_up_for_retry])


def description(result: dg.ExecuteInProcessResult) -> str | None:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    told = event.step_failure_data.user_failure_data
    return told.description if told else None


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_may_pass_is_tried_again_three_times_and_told_in_one_line(error: PipelineError) -> None:
    result = executed(*[error] * 4)
    assert (attempts(result), description(result)) == (4, str(error))


@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
def test_what_will_not_pass_is_told_in_one_line_at_once(error: PipelineError) -> None:
    result = executed(error)
    assert (attempts(result), description(result)) == (1, str(error))


def test_what_a_sensor_asked_for_is_told_at_once_also_where_it_may_pass() -> None:
    result = executed(*PASSING, tags={"jetstream/attempt": "1"})
    assert (attempts(result), description(result)) == (1, str(PASSING[0]))


def test_what_has_passed_succeeds() -> None:
    result = executed(PASSING[0], PASSING[1], None)
    assert (result.success, attempts(result)) == (True, 3)


def test_what_is_no_error_of_ours_is_left_alone_and_not_tried_again() -> None:
    result = executed(ZeroDivisionError())
    assert (attempts(result), description(result)) == (1, None)
    with pytest.raises(ZeroDivisionError), told_to_dagster(dg.build_op_context()):
        raise ZeroDivisionError


def test_pauses_begin_with_half_a_minute_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    asked = []

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        asked.extend(failure(context, "host is down", passing=True) for _ in range(50))

    @dg.job
    def job() -> None:
        step()

    assert job.execute_in_process().success
    pauses = {one.seconds_to_wait or 0.0 for one in asked if isinstance(one, dg.RetryRequested)}
    assert len(pauses) == 50, "those that fail together do not all come back together"
    assert 15 <= min(pauses) <= max(pauses) <= 30


def test_a_failure_carries_what_one_wants_to_know() -> None:
    told = failure(dg.build_op_context(), "no", passing=False, metadata={"windows": dg.MetadataValue.int(3)})
    assert isinstance(told, dg.Failure)
    assert (told.allow_retries, told.metadata["windows"].value) == (False, 3)
