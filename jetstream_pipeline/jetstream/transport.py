"""Which libraries can carry a websocket. How each does it belongs to `transport_picows` and `transport_websockets`."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec

from jetstream_pipeline.errors import InvalidInput


class Transport(StrEnum):
    """The library that reads websockets: picows is the faster one, websockets the reference."""

    PICOWS = "picows"
    WEBSOCKETS = "websockets"

    @classmethod
    def parse(cls, text: str) -> Transport:
        """A transport that is installed; InvalidInput for any other text."""
        try:
            transport = cls(text.strip())
        except ValueError:
            raise InvalidInput(f"{text!r} is not a transport; write {' or '.join(cls)}") from None
        if not transport.is_installed:
            raise InvalidInput(f"{transport} is not installed; write {cls.WEBSOCKETS}, or install it")
        return transport

    @property
    def is_installed(self) -> bool:
        return find_spec(self.value) is not None


DEFAULT = Transport.PICOWS if Transport.PICOWS.is_installed else Transport.WEBSOCKETS


def default_transport() -> Transport:
    return DEFAULT
