"""`jetstream-pipeline simulate`: a Jetstream server on loopback over a synthetic network."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import click

from jetstream_pipeline.cli.numbers import FiniteRange
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.simulator import Faults, Network, Simulator, Witness
from jetstream_pipeline.simulator.faults import CutAfterBytes
from jetstream_pipeline.window import parse_time

_SEGMENT_MINUTES = 60


@click.command()
@click.option("--port", "-p", type=click.IntRange(0, 65535), default=6008, show_default=True, help="0: any free port.")
@click.option("--rate", type=FiniteRange(1, 20_000), default=20.0, show_default=True, help="Mean events/s.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed is another network.")
@click.option("--lookback-hours", type=FiniteRange(min=0, min_open=True), default=36.0, show_default=True)
@click.option("--dictionary", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For compression.")
@click.option("--cut-after", type=click.IntRange(min=1), multiple=True, help="Cut the n-th connection after so many.")
@click.option("--old", is_flag=True, help="An old server: the first wire only, without sequence numbers.")
@click.option(
    "--offset", type=FiniteRange(), default=0.0, show_default=True, help="Witness everything so many seconds later."
)
@click.option("--blind", type=FiniteRange(0, 1), default=0.0, show_default=True, help="Share of DIDs not seen.")
@click.option("--events-per-second", type=FiniteRange(min=1), help="Send no more, to all subscribers together.")
@click.option("--archive-since", metavar="TIME", help="Serve an archive of everything from this time (UTC) on.")
@click.option("--segment-minutes", type=click.IntRange(min=1), help="Of the archive; 60 otherwise.")
@click.option("--api-token", metavar="TOKEN", help="What the archive's plans and downloads want as a bearer.")
@click.option("--cut-download", type=click.IntRange(min=0), multiple=True, help="Cut the n-th one after so many bytes.")
def simulate(
    port: int,
    rate: float,
    seed: int,
    lookback_hours: float,
    dictionary: Path | None,
    cut_after: tuple[int, ...],
    old: bool,
    offset: float,
    blind: float,
    events_per_second: float | None,
    archive_since: str | None,
    segment_minutes: int | None,
    api_token: str | None,
    cut_download: tuple[int, ...],
) -> None:
    """Serve a synthetic network on 127.0.0.1 until interrupted."""
    if archive_since is None and (segment_minutes or api_token or cut_download):
        raise InvalidInput("there is no archive to set up; say from when on it is to be, with --archive-since")
    try:
        simulator = Simulator(
            Network(seed=seed, rate=rate),
            port=port,
            lookback=timedelta(hours=lookback_hours),
            dictionary=dictionary.read_bytes() if dictionary else None,
            faults=Faults(cut_after_events=cut_after, downloads=tuple(map(CutAfterBytes, cut_download))),
            with_cursor=not old,
            v2=not old,
            witness=Witness(offset=timedelta(seconds=offset)),
            blind=blind,
            events_per_second=events_per_second,
            archive_since=parse_time(archive_since) if archive_since else None,
            segment_minutes=segment_minutes or _SEGMENT_MINUTES,
            api_token=api_token,
        )
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"cannot simulate this: {error}; give other numbers") from None
    try:
        asyncio.run(_serve(simulator))
    except OSError as error:
        raise InvalidInput(f"cannot listen on port {port}: {error.strerror or error}; choose another --port") from None


async def _serve(simulator: Simulator) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with simulator:
        click.echo(f"serving a simulated network at {simulator.address}")
        await stopped.wait()
