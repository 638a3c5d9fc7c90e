"""What can go wrong on the way to whom it concerns."""

from jetstream_pipeline.errors import PipelineError


class AlertError(PipelineError):
    """Somebody could not be told, or not everything. Who else was told was told once."""

    passing = True

    def __init__(self, text: str, failed: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.failed = failed
        """The targets that do not have all of the alerts, as `Targets.names` has them."""


class NotTold(Exception):
    """One target's part of an AlertError, told within its text."""
