"""How the pipeline's errors become Dagster's: in one line, and tried again only where that can help."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.orchestration.metadata import ATTEMPT_TAG

RETRIES = 3
_FIRST_PAUSE_SEC = 30.0

Context = dg.OpExecutionContext | dg.AssetExecutionContext


def failure(
    context: Context, text: str, *, passing: bool, metadata: Mapping[str, dg.MetadataValue] | None = None
) -> dg.Failure | dg.RetryRequested:
    """What a step raises: a request to be tried again, after pauses that double, for what may pass; otherwise, and
    after the last attempt, a failure that says what happened. What a sensor asked for is not tried again here: the
    sensor asks again, and no run waits in the place of others until then."""
    if passing and ATTEMPT_TAG not in context.run.tags and context.retry_number < RETRIES:
        context.log.warning(f"{text}; trying again")
        pause = _FIRST_PAUSE_SEC * 2**context.retry_number * random.uniform(0.5, 1.0)
        return dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=pause)
    return dg.Failure(text, metadata=metadata, allow_retries=False)


@contextmanager
def told_to_dagster(context: Context) -> Iterator[None]:
    """Fail the step for what the pipeline says; errors that are none of ours stay what they are."""
    try:
        yield
    except PipelineError as error:
        raise failure(context, str(error), passing=error.passing) from error
