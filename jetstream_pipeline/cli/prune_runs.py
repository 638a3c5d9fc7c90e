"""`jetstream-pipeline prune-runs`: Dagster's records of old runs. Which are needed is `orchestration.pruning`'s."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import dagster as dg

from jetstream_pipeline.cli.numbers import Age
from jetstream_pipeline.doctor.words import size
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.orchestration.pruning import Pruned, databases, prune

_PATIENCE_SEC = 10.0


@click.command("prune-runs", short_help="Delete Dagster's records of old runs.")
@click.option("--older-than", type=Age(), default="30d", show_default=True, help="Ended so long ago: 30d, or 36h.")
@click.option("--most", type=click.IntRange(min=1), help="At most so many runs, the oldest first. Default: all.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--vacuum", is_flag=True, help="Then give SQLite's free pages back to the disk; takes as much room.")
def prune_runs(older_than: timedelta, most: int | None, dry_run: bool, vacuum: bool) -> None:
    """Delete what Dagster (DAGSTER_HOME) keeps of runs that ended long ago: records, event logs, output.

    A run that materialized a partition last keeps its record and what it materialized, so that no window looks missing;
    its logs go. Runs that go on are left alone.
    """
    if not older_than:
        raise InvalidInput("--older-than 0: runs of which nobody could look at anything; write 1h or more")
    if vacuum and dry_run:
        raise InvalidInput("--vacuum gives back what was deleted, and --dry-run deletes nothing; leave one out")
    before = datetime.now(UTC) - older_than
    with _instance() as instance:
        done = Pruned()
        for batch in prune(instance, before, most=most, dry_run=dry_run):
            done += batch
            click.echo(f"{done.deleted + done.stripped + done.kept:,} runs", err=True)
        would = "would be " if dry_run else ""
        click.echo(
            f"{done.deleted:,} runs {would}deleted, {done.stripped:,} {would}stripped of their logs, "
            f"{done.kept:,} kept for others that go on"
        )
        if vacuum:
            for path in databases(instance):
                click.echo(_vacuum(path))


def _instance() -> dg.DagsterInstance:
    home = os.environ.get("DAGSTER_HOME", "")
    if not home or not Path(home, "dagster.yaml").is_file():
        raise InvalidInput(
            f"DAGSTER_HOME is {home or 'not set'}: set it to the folder of dagster.yaml, as data/dagster"
        )
    try:
        return dg.DagsterInstance.from_config(str(Path(home).resolve()))
    # A storage that is away, or a setting that is wrong: errors of no family.
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise InvalidInput(f"what Dagster keeps in DAGSTER_HOME={home} cannot be opened: {reason}") from error


def _vacuum(path: Path) -> str:
    before = path.stat().st_size
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_SEC)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        return f"{path}: left as it is ({error}); stop Dagster and try again"
    return f"{path}: {size(before)} before, {size(path.stat().st_size)} now"
