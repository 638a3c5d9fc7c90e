"""The library that speaks Prometheus' format, which only who asks for metrics has to have."""

from __future__ import annotations

from importlib.util import find_spec

from jetstream_pipeline.errors import InvalidInput


def check_installed() -> None:
    """InvalidInput where it is missing; the modules that need it are imported after this."""
    if find_spec("prometheus_client") is None:
        raise InvalidInput("metrics take prometheus_client: pip install 'jetstream_pipeline[metrics]'")


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, as 127.0.0.1:9464 or [::1]:9464; InvalidInput where it is none."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidInput(f"{text!r} is not an address to listen at; write 127.0.0.1:9464")
    return host, int(port)
