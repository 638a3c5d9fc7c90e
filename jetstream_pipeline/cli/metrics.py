"""`jetstream-pipeline metrics`: the figures of the lake and the queues, for Prometheus."""

from __future__ import annotations

import signal
from pathlib import Path

import click

import jetstream_pipeline
from jetstream_pipeline.metrics.extra import check_installed, parse_address
from jetstream_pipeline.orchestration.loading import declared_streams
from jetstream_pipeline.settings import Settings


@click.command(short_help="Serve the lake's and the queues' figures to Prometheus.")
@click.option(
    "--listen", default="127.0.0.1:9464", show_default=True, help="HOST:PORT; whoever reaches it may read. Port 0: any."
)
def metrics(listen: str) -> None:
    """Serve the figures of the lake, its streams and the queues at http://HOST:PORT/metrics, until Ctrl-C or SIGTERM.

    They are read when Prometheus asks, from what the windows' files say of themselves.
    """
    address = parse_address(listen)
    check_installed()
    from jetstream_pipeline.metrics.families import LakeCollector
    from jetstream_pipeline.metrics.lake import LakeReadings
    from jetstream_pipeline.metrics.serving import serving

    settings = Settings.read()
    streams = declared_streams(Path(jetstream_pipeline.__file__).parent, settings)
    readings = LakeReadings(settings.data, streams)
    # What every window says is read before the first scrape, which is not to wait for it.
    readings.read()
    ends = (signal.SIGINT, signal.SIGTERM)
    # Before there is a thread beside this one: it would take them.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with serving(address, [LakeCollector(readings)]) as port:
        click.echo(f"metrics at http://{listen.rpartition(':')[0]}:{port}/metrics, until Ctrl-C", err=True)
        signal.sigwait(ends)
