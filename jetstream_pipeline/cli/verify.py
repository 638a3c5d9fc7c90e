"""`jetstream-pipeline verify`: windows of the lake held against a second host."""

from __future__ import annotations

import json
import sys

import click

from jetstream_pipeline.cli.output import printable
from jetstream_pipeline.cli.windows import catalogue_follows, options, reporter
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.iceberg.way import make_way
from jetstream_pipeline.replay.comparison import Lack
from jetstream_pipeline.replay.streams import subscription_of
from jetstream_pipeline.replay.verify import Report, verify_window
from jetstream_pipeline.settings import MAIN_STREAM, Settings
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.tables.build import build_stale
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window, hours, parse_time

_NAMED = 3
_LONGEST_NAME = 80


@click.command(short_help="Hold whole windows against another host.")
@click.option("--from", "start", required=True, help="First hour, UTC: 2026-01-31-14:00, or ISO 8601.")
@click.option("--to", "end", required=True, help="End of the last hour, UTC.")
@click.option("--stream", default=MAIN_STREAM, show_default=True, help="The stream that the windows belong to.")
@click.option(
    "-i",
    "--host",
    "hosts",
    multiple=True,
    help="Host to compare with; repeatable: asked in order, until one agrees. Default: JETSTREAM_HOSTS.",
)
@click.option(
    "--tables/--no-tables", default=True, show_default=True, help="Derive tables older than their windows anew."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per window, and per problem.")
def verify(start: str, end: str, stream: str, hosts: tuple[str, ...], tables: bool, as_json: bool) -> None:
    """Compare whole windows with a host that they did not come from, by the identity of each event.

    What a window lacks is merged in. Where the other host lacks nothing the window is `verified`. Exit code 1 where a
    window is not, 2 where no window could be compared at all.
    """
    settings = Settings.read()
    servers, data = settings.parsed_hosts(hosts), settings.data
    windows = list(hours(parse_time(start), parse_time(end)))
    subscription_of(data, stream)  # Where there is no such stream, that is said once.
    compared, verified = False, True
    for window in windows:
        try:
            make_way(settings.iceberg, data, stream, window)
            report = verify_window(
                stream,
                window,
                hosts=servers,
                data=data,
                settle=settings.settle,
                skew=settings.host_skew,
                options=options(settings, data),
                on_progress=reporter(window),
            )
        except PipelineError as error:
            _tell(error, window, as_json)
            verified = False
        else:
            compared = True
            click.echo(report.model_dump_json() if as_json else _told(report))
            verified = verified and report.summary.state is WindowState.VERIFIED
        try:
            # A run that failed, or one before it that died, may have repaired the window.
            if tables:
                build_stale(stream, window, data.lake)
            refresh(data)
            verified = catalogue_follows(settings, data, stream) and verified
        except PipelineError as error:
            _tell(error, window, as_json)
            verified = False
    sys.exit(2 if not compared else 0 if verified else 1)


def _tell(error: PipelineError, window: Window, as_json: bool) -> None:
    """One window's problem does not keep the others from being compared."""
    text = " ".join(str(error).split())
    if as_json:
        click.echo(json.dumps({"window": window.key, "error": text}))
    else:
        click.echo(f"{window}  {printable(text)}", err=True)


def _told(report: Report) -> str:
    summary = report.summary
    lines = [f"{summary.window}  {summary.state}  {summary.events:,} events from {summary.host}"]
    for host in report.hosts:
        if host.lacking_here is None or host.lacking_there is None:
            lines.append(f"  {host.host}: not compared: {printable(host.note or '')}")
            continue
        lines.append(f"  {host.host}: {'agrees' if host.agreed else 'does not agree'}")
        lines += [f"    it lacks {_lack(host.lacking_there)}"] if host.lacking_there.events else []
        lines += [f"    repaired: {_lack(host.lacking_here)}"] if host.lacking_here.events else []
    lines += [f"  blind: {name} does not see everything" for name in report.blind]
    return "\n".join(lines)


def _lack(lack: Lack) -> str:
    return (
        f"{lack.events:,} of {lack.of:,} events, of {lack.repositories:,} repositories "
        f"({_most(lack.by_collection)}; {_most(lack.by_repository)})"
    )


def _most(counts: dict[str, int]) -> str:
    named = ", ".join(f"{printable(name, _LONGEST_NAME)} {count:,}" for name, count in list(counts.items())[:_NAMED])
    return f"{named}, …" if len(counts) > _NAMED else named
