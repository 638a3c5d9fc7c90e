"""`jetstream-pipeline replay`: windows into the lake, without Dagster, by the same code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.replay import Progress, replay_window
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.lake import WindowSummary
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window, hours, parse_time

_PROGRESS_SEC = 5.0


@click.command()
@click.option("--start", required=True, help="First hour, UTC: 2026-01-31-14:00, or ISO 8601.")
@click.option("--end", required=True, help="End of the last hour, UTC.")
@click.option(
    "-c",
    "--collection",
    "collections",
    multiple=True,
    help="Collection, or prefix as app.bsky.graph.*; repeatable. Default: JETSTREAM_COLLECTIONS.",
)
@click.option("-d", "--did", "dids", multiple=True, help="Repository; repeatable. Default: all.")
@click.option(
    "-i",
    "--host",
    "hosts",
    multiple=True,
    help="Host name or ws(s):// address; repeatable: the order of fail-over. Default: JETSTREAM_HOSTS.",
)
@click.option("--stream", default="network", show_default=True, help="The stream that the windows belong to.")
@click.option("--tables/--no-tables", default=True, show_default=True, help="Derive the typed tables too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per window.")
def replay(
    start: str,
    end: str,
    collections: tuple[str, ...],
    dids: tuple[str, ...],
    hosts: tuple[str, ...],
    stream: str,
    tables: bool,
    as_json: bool,
) -> None:
    """Replay whole hours of a stream into the lake and print each one's state and counts.

    Exit code 1 where a window is not complete.
    """
    settings = Settings.read()
    windows = list(hours(parse_time(start), parse_time(end)))
    subscription = Subscription(collections or settings.collections, dids)
    servers = [Host.parse(host) for host in hosts] or list(settings.parsed_hosts())
    data = DataDirectory(settings.data_dir)
    whole = True
    for window in windows:
        summary = replay_window(stream, subscription, window, hosts=servers, data=data, on_progress=_reporter(window))
        if tables and summary.state.is_whole:
            for table in TABLES:
                build_table(table, stream, window, data.lake)
        refresh(data)
        click.echo(summary.model_dump_json() if as_json else _line(summary))
        whole = whole and summary.state.is_whole
    sys.exit(0 if whole else 1)


def _reporter(window: Window) -> Callable[[Progress], None]:
    """Tells every few seconds how far a replay has come, and how the last connection ended if one did."""
    told = time.monotonic()
    note: str | None = None

    def report(progress: Progress) -> None:
        nonlocal told, note
        note = progress.note or note
        if time.monotonic() - told >= _PROGRESS_SEC:
            told = time.monotonic()
            line = f"{window}  {progress.share(window):4.0%}  {progress.events:,} events"
            click.echo(f"{line}  ({note})" if note else line, err=True)
            note = None

    return report


def _line(summary: WindowSummary) -> str:
    text = (
        f"{summary.window}  {summary.state}  {summary.events:,} events  {summary.events_per_second:,.0f}/s  "
        f"{summary.host}  {summary.quarantined} quarantined"
    )
    return text if summary.state.is_whole else f"{text}  ({summary.reason})"
