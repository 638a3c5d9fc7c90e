"""What a use case was asked for."""

from typing import Any

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.streams.stream import Stream


class Recorder:
    """Stands where a use case is called, and refuses."""

    def __init__(self, says: str = "this is a test", *, passing: bool = False) -> None:
        self.given: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}
        self._error = InvalidInput(says)
        self._error.passing = passing

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.given, self.named = given, named
        raise self._error

    def holds(self, stream: Stream, *given: Any) -> None:
        """Whether it was asked for this, with what the stream says."""
        assert self.given == given
        assert self.named["hosts"] == stream.hosts
        assert self.named["data"].root == stream.settings.data_dir
        assert self.named["settle"] == stream.settings.settle
        assert self.named["skew"] == stream.settings.host_skew
        assert self.named["options"] == Options(stream.wire, archive=stream.access)
