"""`jetstream-pipeline quarantine …`: what could not be read, and reading it again."""

from __future__ import annotations

import sys

import click

from jetstream_pipeline.cli.output import WRITERS
from jetstream_pipeline.cli.windows import catalogue_follows
from jetstream_pipeline.iceberg.way import make_way
from jetstream_pipeline.replay.retry import retry as retry_name
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.files import folders, found
from jetstream_pipeline.storage.quarantine import FILES, window_of
from jetstream_pipeline.tables.build import build_stale
from jetstream_pipeline.warehouse.database import querying, refresh

_BY_REASON = """
SELECT stream AS name, reason, count(*) AS messages, sum(size)::BIGINT AS bytes,
       min(received_at) AS first, max(received_at) AS last
FROM quarantine GROUP BY ALL ORDER BY name, messages DESC, reason"""


@click.group()
def quarantine() -> None:
    """Look after messages that could not be read. The view `quarantine` shows each of them."""


@quarantine.command("list")
@click.option("-f", "--format", "form", type=click.Choice(list(WRITERS)), default="table", show_default=True)
def list_(form: str) -> None:
    """How many messages of each stream and queue could not be read, by reason."""
    with querying(Settings.read().data) as connection:
        WRITERS[form](connection.sql(_BY_REASON))


@quarantine.command()
@click.argument("names", nargs=-1)
@click.option(
    "--tables/--no-tables", default=True, show_default=True, help="Derive tables older than their windows anew."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file.")
def retry(names: tuple[str, ...], tables: bool, as_json: bool) -> None:
    """Read again what lies in the quarantine of NAMES (streams or queues; default: all).

    What this version understands goes into its window or its queue, once. Exit code 1 where a file was left as it is
    for another reason than that its messages still cannot be read.
    """
    settings = Settings.read()
    data = settings.data
    everything = [folder.name for folder in folders(data.quarantine)]
    failed = False
    for name in names or everything:
        for file in found(data.quarantine_folder(name), FILES):
            if window := window_of(file.path):
                make_way(settings.iceberg, data, name, window)
        for retried in retry_name(data, name, skew=settings.host_skew):
            place = retried.window or "queue"
            line = f"{name}  {place}  {retried.understood} of {retried.messages} understood, {retried.added} added"
            line = f"{line}  ({retried.note})" if retried.note else line
            click.echo(retried.model_dump_json() if as_json else line)
            failed = failed or retried.note is not None
        # Those too of which a run that died has left nothing in quarantine.
        for file in found(data.quarantine_folder(name), FILES) if tables else ():
            if window := window_of(file.path):
                build_stale(name, window, data.lake)
        if name in data.lake.streams():
            failed = not catalogue_follows(settings, data, name) or failed
    refresh(data)
    sys.exit(1 if failed else 0)
