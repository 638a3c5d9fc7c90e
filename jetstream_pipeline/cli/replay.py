"""`jetstream-pipeline replay`: windows into the lake, without Dagster, by the same code."""

from __future__ import annotations

import sys

import click

from jetstream_pipeline.cli.windows import (
    catalogue_follows,
    declared_here,
    derive_tables,
    options,
    reporter,
)
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.way import make_way
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.streams import check_filter, subscription_of
from jetstream_pipeline.settings import MAIN_STREAM, Settings
from jetstream_pipeline.storage.files import exists
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowSummary
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import hours, parse_time


@click.command(short_help="Replay whole hours of a stream into the lake.")
@click.option("--start", required=True, help="First hour, UTC: 2026-01-31-14:00, or ISO 8601.")
@click.option("--end", required=True, help="End of the last hour, UTC.")
@click.option(
    "-c",
    "--collection",
    "collections",
    multiple=True,
    help="Collection, or prefix as app.bsky.graph.*; repeatable. Default: JETSTREAM_COLLECTIONS for the stream network,"
    " for another one what its windows have, or it is declared with.",
)
@click.option("-d", "--did", "dids", multiple=True, help="Repository; repeatable. Default: all, or as the stream has.")
@click.option(
    "-i",
    "--host",
    "hosts",
    multiple=True,
    help="Host name or ws(s):// address; repeatable: the order of fail-over. Default: JETSTREAM_HOSTS.",
)
@click.option("--stream", default=MAIN_STREAM, show_default=True, help="The stream that the windows belong to.")
@click.option("--tables/--no-tables", default=True, show_default=True, help="Derive the typed tables too.")
@click.option("--only-missing", is_flag=True, help="Leave out the hours that are whole already.")
@click.option(
    "--replace-history",
    is_flag=True,
    help="The stream's windows shall have this filter from now on, whatever they had.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per window.")
def replay(
    start: str,
    end: str,
    collections: tuple[str, ...],
    dids: tuple[str, ...],
    hosts: tuple[str, ...],
    stream: str,
    tables: bool,
    only_missing: bool,
    replace_history: bool,
    as_json: bool,
) -> None:
    """Replay whole hours of a stream into the lake and print each one's state and counts.

    Exit code 1 where a window is not complete, or the Iceberg catalogue could not follow.
    """
    if only_missing and replace_history:
        raise InvalidInput("--only-missing leaves out what --replace-history would replace; give one of them")
    settings = Settings.read()
    windows = list(hours(parse_time(start), parse_time(end)))
    servers, data = settings.parsed_hosts(hosts), settings.data
    if collections or dids:
        subscription = Subscription(collections or settings.collections, dids)
    else:
        subscription = _own_filter(settings, data, stream, replace_history)
    if only_missing:
        check_filter(data, stream, subscription)
        there = [window for window in windows if data.lake.has(stream, window)]
        click.echo(f"{len(there)} of {len(windows)} hours are whole already", err=True)
        windows = [window for window in windows if window not in there]
        # A run may have ended between a window and its tables; those of a day's file are whole.
        for window in there if tables else ():
            if exists(data.lake.events_path(stream, window)):
                derive_tables(stream, window, data, subscription.collections, only_stale=True)
        refresh(data)
    whole = followed = True
    for window in windows:
        make_way(settings.iceberg, data, stream, window)
        try:
            summary = replay_window(
                stream,
                subscription,
                window,
                hosts=servers,
                data=data,
                settle=settings.settle,
                skew=settings.host_skew,
                options=options(settings, data),
                replace=replace_history,
                on_progress=reporter(window),
            )
        except KeyboardInterrupt:
            click.echo(f"interrupted in {window}; what came of it is kept: go on with --only-missing", err=True)
            raise
        if tables and summary.state.is_whole:
            derive_tables(stream, window, data, subscription.collections)
        refresh(data)
        followed = catalogue_follows(settings, data, stream)
        click.echo(summary.model_dump_json() if as_json else _line(summary))
        whole = whole and summary.state.is_whole
    sys.exit(0 if whole and followed else 1)


def _own_filter(settings: Settings, data: DataDirectory, stream: str, replace: bool) -> Subscription:
    """What a stream's windows are of, where nobody says; `replace`: what they shall be of."""
    if stream == MAIN_STREAM:
        return Subscription(settings.collections)
    if not replace and exists(data.lake.stream_path(stream)):
        return subscription_of(data, stream)
    declared = {one.name: one for one in declared_here(settings)}
    return declared[stream].subscription() if stream in declared else Subscription(settings.collections)


def _line(summary: WindowSummary) -> str:
    text = (
        f"{summary.window}  {summary.state}  {summary.events:,} events  {summary.events_per_second:,.0f}/s  "
        f"{summary.host}  {summary.quarantined} quarantined"
    )
    return text if summary.state.is_whole else f"{text}  ({summary.reason})"
