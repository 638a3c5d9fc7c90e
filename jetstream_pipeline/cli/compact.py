"""`jetstream-pipeline compact`: days of small windows become one file for each data set, or windows again."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import click

from jetstream_pipeline.cli.output import printable
from jetstream_pipeline.cli.windows import catalogue_follows, check_streams
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.tables.compaction import KEEP, Compacted, Compaction
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import parse_time

_KEEP_MINUTES = KEEP // timedelta(minutes=1)


@click.command(short_help="Make one file of each day's small windows.")
@click.argument("stream")
@click.option("--before", help="Only days before this one, UTC: 2026-01-31. Default: today.")
@click.option("--expand", is_flag=True, help="Make windows of days again.")
@click.option(
    "--keep-minutes", type=click.IntRange(min=0), default=_KEEP_MINUTES, show_default=True,
    help="How long the windows' files stay for queries that had listed them; a later run removes them.",
)  # fmt: skip
def compact(stream: str, before: str | None, expand: bool, keep_minutes: int) -> None:
    """Make one file for each data set of every whole day of STREAM, but for its newest one.

    Views show the same as before. Exit code 1 where a day stays as it is because a run is at it, or it cannot be read.
    """
    settings = Settings.read()
    data = settings.data
    check_streams(data, [stream])
    until = (parse_time(before) if before else datetime.now(UTC)).date()
    compaction = Compaction(data, stream)
    if expand:
        for day in compaction.expand(until):
            click.echo(f"{stream}  {day}  windows again")
        refresh(data)
        sys.exit(0 if catalogue_follows(settings, data, stream) else 1)
    # What its tables still show is not to be removed.
    everything = catalogue_follows(settings, data, stream)
    if not everything:
        sys.exit(1)
    # Before windows' files of days are removed, the views look for days.
    refresh(data)
    for done in compaction.run(until, keep=timedelta(minutes=keep_minutes)):
        refresh(data)
        click.echo(_told(done))
        everything = everything and done.kept is None
    refresh(data)
    everything = catalogue_follows(settings, data, stream) and everything
    sys.exit(0 if everything else 1)


def _told(done: Compacted) -> str:
    if done.kept is not None:
        return f"{done.stream}  {done.day}  stays as it is: {printable(done.kept)}"
    before, after = done.bytes_before / 1e6, done.bytes / 1e6
    return f"{done.stream}  {done.day}  {done.files:,} files of {before:,.1f} MB are {after:,.1f} MB"
