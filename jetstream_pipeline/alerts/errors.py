"""What can go wrong on the way to whom it concerns."""

from jetstream_pipeline.errors import PipelineError


class AlertError(PipelineError):
    """Somebody could not be told, or not everything. Who else was told was told once.

    `passing` where some alerts may be told later: those after the first `settled`.
    """

    def __init__(self, text: str, failed: tuple[str, ...], settled: int, *, passing: bool) -> None:
        super().__init__(text)
        self.passing = passing
        self.failed = failed
        """The targets that do not have all of the alerts, as `Targets.names` has them."""
        self.settled = settled
        """How many alerts, from the first, are told or refused for good, so that none of them is to be sent again."""


class NotTold(Exception):
    """One target's part of an AlertError, told within its text. `settled` is what it is there."""

    def __init__(self, text: str, settled: int = 0) -> None:
        super().__init__(text)
        self.settled = settled
