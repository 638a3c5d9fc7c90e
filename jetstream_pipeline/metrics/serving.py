"""An HTTP server that Prometheus scrapes, for as long as a block of code runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.registry import Collector

from jetstream_pipeline.errors import InvalidInput


@contextmanager
def serving(address: tuple[str, int], collectors: Sequence[Collector]) -> Iterator[int]:
    """Serve what the collectors have, and what this process takes, at `/metrics`; the port. Port 0: a free one.

    InvalidInput where nobody can listen there.
    """
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    host, port = address
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise InvalidInput(f"cannot listen at {host}:{port} ({error.strerror or error}); choose another") from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
