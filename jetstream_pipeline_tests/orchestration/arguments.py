"""What a use case was asked for."""

from typing import Any

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import Settings


class Recorder:
    """Stands where a use case is called, and refuses."""

    def __init__(self) -> None:
        self.given: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.given, self.named = given, named
        raise InvalidInput("this is a test")

    def holds(self, settings: Settings, *given: Any) -> None:
        """Whether it was asked for this, with what the settings say."""
        assert self.given == given
        assert self.named["hosts"] == settings.parsed_hosts()
        assert self.named["data"].root == settings.data_dir
        assert self.named["settle"] == settings.settle
        assert self.named["skew"] == settings.host_skew
