"""What may pass is tried again, what will not is not."""

import dagster as dg
import pytest

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.jetstream.errors import JetstreamError, Refused
from jetstream_pipeline.orchestration.failures import told_to_dagster
from jetstream_pipeline.replay.replay import NotSettled
from jetstream_pipeline.storage.errors import Damaged, WindowBusy


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (JetstreamError("host is down"), True),
        (NotSettled("too early"), True),
        (WindowBusy("another run is at it"), True),
        (Refused("host refuses"), False),
        (InvalidInput("not a collection"), False),
        (Damaged("not ours"), False),
    ],
)
def test_a_failure_says_in_one_line_what_happened_and_is_tried_again_where_that_can_help(
    error: PipelineError, again: bool
) -> None:
    with pytest.raises(dg.Failure) as failure, told_to_dagster():
        raise error
    assert failure.value.description == str(error)
    assert failure.value.allow_retries is again


def test_what_is_no_error_of_ours_is_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), told_to_dagster():
        raise ZeroDivisionError
