"""How the pipeline's errors become Dagster's: in one line, and tried again only where that can help."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from jetstream_pipeline.errors import PipelineError


@contextmanager
def told_to_dagster() -> Iterator[None]:
    """Fail the step for what the pipeline says; what may pass is left to the step's retry policy."""
    try:
        yield
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=error.passing) from error
