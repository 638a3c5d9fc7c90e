"""`jetstream-pipeline stream`: events into a queue, from a host or the next one, until enough of them came."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

from jetstream_pipeline.cli.metering import metered
from jetstream_pipeline.cli.numbers import FiniteRange
from jetstream_pipeline.cli.progress import showing
from jetstream_pipeline.connector.connector import DEFAULT_COLLECTIONS, DEFAULT_QUEUE, JetstreamConnector
from jetstream_pipeline.connector.statistics import Progress, Statistics
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.subscription import KINDS
from jetstream_pipeline.metrics.extra import parse_address
from jetstream_pipeline.streams.did_file import read_dids
from jetstream_pipeline.window import parse_time, to_us

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.option(
    "-c",
    "--wanted-collections",
    "collections",
    multiple=True,
    default=DEFAULT_COLLECTIONS,
    show_default=True,
    help="Collection, or prefix as app.bsky.graph.*; repeatable. Identity and account events come too: see --kinds.",
)
@click.option(
    "-d",
    "--wanted-dids",
    "dids",
    multiple=True,
    help="Repository; repeatable, up to 10,000. @FILE reads one DID a line.",
)
@click.option("-u", "--bluesky-user-handles", "handles", multiple=True, help="Handles, comma-separated; repeatable.")
@click.option("-s", "--start-timestamp", "start", help="Begin here, UTC: 2026-01-31, 2026-01-31-14:00:00 or ISO 8601.")
@click.option("-e", "--end-timestamp", "end", help="Stop here, UTC.")
@click.option(
    "-n",
    "--num-records",
    "count",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Stop after so many; 0: no limit.",
)
@click.option(
    "-t",
    "--max-time",
    "seconds",
    type=FiniteRange(min=0),
    default=300.0,
    show_default=True,
    help="Stop after so many seconds, also in silence; 0: no limit.",
)
@click.option(
    "-i",
    "--instance",
    "instances",
    multiple=True,
    help="Host name, short name (us-east-1) or ws(s):// address; repeatable: the order of fail-over. "
    "Default: JETSTREAM_HOSTS.",
)
@click.option("--queue-name", default=DEFAULT_QUEUE, show_default=True, help="Made if it is missing.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=100, show_default=True, help="Records in one transaction."
)
@click.option("--compress", is_flag=True, help="Ask hosts for zstd.")
@click.option(
    "--wire", type=click.Choice([wire.value for wire in Wire]), help="Default: v2 where a host offers it, v1 otherwise."
)
@click.option(
    "--cursor", type=click.IntRange(min=0), help="Begin here: unix microseconds, or a host's sequence number."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where the last run of the same stream into the same queue stopped, if any did.",
)
@click.option(
    "--kinds", multiple=True, type=click.Choice(KINDS), help="Only events of this kind; repeatable. Default: all."
)
@click.option("--metrics", help="Serve the run's figures to Prometheus at HOST:PORT, as 127.0.0.1:9465.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="The final statistics as JSON.")
def stream(
    collections: tuple[str, ...],
    dids: tuple[str, ...],
    handles: tuple[str, ...],
    start: str | None,
    end: str | None,
    count: int,
    seconds: float,
    instances: tuple[str, ...],
    queue_name: str,
    batch_size: int,
    compress: bool,
    wire: str | None,
    cursor: int | None,
    resume: bool,
    kinds: tuple[str, ...],
    metrics: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Store events in a queue: from now on, or from a start.

    Ctrl-C and SIGTERM stop it; what came until then is stored, and where to go on is told. Twice: at once.

    Exit code 1 where no host had all any more of an interval that has passed.
    """
    if start is not None and cursor is not None:
        raise InvalidInput("give --start-timestamp or --cursor, not both: each says where to begin")
    begin = cursor if start is None else to_us(parse_time(start))
    finish = None if end is None else to_us(parse_time(end))
    if metrics is not None:
        parse_address(metrics)
    connector = JetstreamConnector(queue_name, batch_size, compress=compress, wire=wire)

    async def listen() -> Statistics:
        stop = asyncio.Event()
        _on_signals(stop.set)
        with showing(quiet) as shown, metered(metrics, connector.queue) as measured:
            return await connector.listen_until_count(
                instances,
                collections,
                count,
                seconds,
                begin,
                _read_dids(dids),
                finish,
                wanted_handles=[name.strip() for part in handles for name in part.split(",") if name.strip()],
                kinds=kinds,
                resume=resume,
                on_progress=_both(shown, measured),
                stop=stop,
            )

    statistics = asyncio.run(listen())
    click.echo(statistics.model_dump_json() if as_json else _summary(statistics, queue_name))
    sys.exit(1 if statistics.gaps else 0)


def _both(*tell: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        for one in tell:
            if one:
                one(progress)

    return told


def _on_signals(ask_to_stop: Callable[[], None]) -> None:
    """Ask at the first signal; the second one ends the process at once, which loses nothing that was stored."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        ask_to_stop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _SIGNALS:
        loop.add_signal_handler(number, first)


def _read_dids(given: tuple[str, ...]) -> list[str]:
    """The DIDs themselves, and those of each @FILE."""
    named = [read_dids(Path(text[1:])) if text.startswith("@") else [text] for text in given]
    return [did for dids in named for did in dids]


def _summary(statistics: Statistics, queue_name: str) -> str:
    lines = [
        f"{statistics.records_stored:,} records stored in {queue_name} in {statistics.total_time:,.1f} s "
        f"({statistics.records_per_second:,.0f}/s), {statistics.queue_length:,} waiting there",
        f"{statistics.messages_received:,} messages from {', '.join(statistics.hosts) or 'no host'}, "
        f"{statistics.reconnections:,} reconnections, {statistics.repeats:,} repeats, "
        f"{statistics.quarantined:,} quarantined",
        *(f"not all of it came: {gap}" for gap in statistics.gaps),
    ]
    if statistics.latest_cursor is not None:
        lines.append(f"go on with --resume, or from --cursor {statistics.latest_cursor}")
    return "\n".join(lines)
