"""`jetstream-pipeline retain`: what is beyond a stream's limits is deleted, or told."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime

import click

from jetstream_pipeline.cli.output import printable
from jetstream_pipeline.cli.windows import catalogue_follows, check_streams, declared_here
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.following import leaving
from jetstream_pipeline.retention.prune import Pruned, Pruning
from jetstream_pipeline.retention.rules import Limit, Retention
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.warehouse.database import refresh


@click.command(short_help="Delete what is beyond the limits of streams.")
@click.argument("names", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and why; delete nothing.")
@click.option("--events-days", type=int, help="Keep events for so many days.")
@click.option("--events-gigabytes", type=float, help="Keep so much of the newest events.")
@click.option("--tables-days", type=int, help="Keep typed tables for so many days.")
@click.option("--tables-gigabytes", type=float, help="Keep so much of the newest typed tables.")
@click.option("--backed-up", help="A copy of the lake: delete only what it is shown to hold.")
@click.option("--unfed", is_flag=True, help="Delete also what a declared queue has not had yet.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per window.")
def retain(
    names: tuple[str, ...],
    dry_run: bool,
    events_days: int | None,
    events_gigabytes: float | None,
    tables_days: int | None,
    tables_gigabytes: float | None,
    backed_up: str | None,
    unfed: bool,
    as_json: bool,
) -> None:
    """Delete the windows and tables of the streams NAMES that are beyond their limits: those that are declared with
    them, or those that are given here. Default: every stream that is declared with limits.

    Exit code 1 where something that is beyond a limit stays.
    """
    given = Retention(Limit(events_days, events_gigabytes), Limit(tables_days, tables_gigabytes), backed_up)
    settings, now, everything = Settings.read(), datetime.now(UTC), True
    data = settings.data
    for pruning in _prunings(data, names, given):
        leave = leaving(settings.iceberg, data, pruning.stream)
        for pruned in replace(pruning, feeds=() if unfed else pruning.feeds, leave=leave).run(now, dry_run=dry_run):
            click.echo(_as_json(pruned, dry_run) if as_json else _told(pruned, dry_run))
            everything = everything and pruned.kept is None
        if not dry_run:
            everything = catalogue_follows(settings, data, pruning.stream) and everything
    if not dry_run:
        refresh(data)
    sys.exit(0 if everything else 1)


def _prunings(data: DataDirectory, names: tuple[str, ...], given: Retention) -> list[Pruning]:
    """InvalidInput for a stream that is not there, or has no limits."""
    declared = {stream.name: stream for stream in declared_here(Settings.read())}
    if not names:
        if given:
            raise InvalidInput("name the stream that these limits are for")
        names = tuple(name for name, stream in declared.items() if stream.retention)
        if not names:
            click.echo("no stream is declared with limits, so all stays; name one, with --events-days 90", err=True)
    check_streams(data, names)
    found = []
    for name in dict.fromkeys(names):
        stream = declared.get(name)
        said = _limits(given, stream.retention if stream else Retention())
        if not said:
            raise InvalidInput(f"{name} is declared without limits; give some: --events-days 90")
        found.append(Pruning(data, name, said, stream.feeds if stream else ()))
    return found


def _limits(given: Retention, declared: Retention) -> Retention:
    """What is given takes the place of what is declared; but what shall be backed up stays so."""
    return replace(given or declared, backed_up=given.backed_up or declared.backed_up)


def _as_json(pruned: Pruned, dry_run: bool) -> str:
    return json.dumps(
        {
            "stream": pruned.stream,
            "window": pruned.window.key if pruned.window.is_hour else f"{pruned.window.start:%Y-%m-%d}",
            "what": pruned.what,
            "bytes": pruned.bytes,
            "why": pruned.why,
            "kept": pruned.kept,
            "deleted": pruned.kept is None and not dry_run,
        }
    )


def _told(pruned: Pruned, dry_run: bool) -> str:
    done = "would be deleted" if dry_run else "deleted"
    fate = done if pruned.kept is None else f"stays: {printable(pruned.kept)}"
    size = f"{pruned.bytes / 1e6:,.1f} MB"
    window = pruned.window if pruned.window.is_hour else f"{pruned.window.start:%Y-%m-%d}"
    return f"{pruned.stream}  {window}  {pruned.what}  {size}  {pruned.why}  {fate}"
