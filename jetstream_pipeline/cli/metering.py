"""How a running stream's figures are served to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from jetstream_pipeline.connector.statistics import Progress
from jetstream_pipeline.metrics.extra import check_installed, parse_address
from jetstream_pipeline.storage.queue.queue import Queue


@contextmanager
def metered(listen: str | None, queue: Queue | None) -> Iterator[Callable[[Progress], None] | None]:
    """What to call with a stream's progress, served at `listen` (HOST:PORT); None where that is None."""
    if listen is None:
        yield None
        return
    address = parse_address(listen)
    check_installed()
    from jetstream_pipeline.metrics.connector import ConnectorCollector
    from jetstream_pipeline.metrics.serving import serving

    collector = ConnectorCollector(queue)
    with serving(address, [collector]) as port:
        click.echo(f"metrics at http://{listen.rpartition(':')[0]}:{port}/metrics", err=True)
        yield collector.show
