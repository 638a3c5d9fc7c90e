"""In which ways a websocket can be read. How belongs to `transport_frames` and `transport_websockets`."""

from __future__ import annotations

from enum import StrEnum

from jetstream_pipeline.errors import InvalidInput


class Transport(StrEnum):
    """How websockets are read: their frames many at once, or message by message by the library websockets, which is the
    reference."""

    FRAMES = "frames"
    WEBSOCKETS = "websockets"

    @classmethod
    def parse(cls, text: str) -> Transport:
        """The transport of this name; InvalidInput for any other text."""
        try:
            return cls(text.strip())
        except ValueError:
            raise InvalidInput(f"{text!r} is not a transport; write {' or '.join(cls)}") from None


DEFAULT = Transport.FRAMES


def default_transport() -> Transport:
    return DEFAULT
