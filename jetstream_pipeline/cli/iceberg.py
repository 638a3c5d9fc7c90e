"""`jetstream-pipeline iceberg …`: the lake's files as tables of Apache Iceberg. What they are is `iceberg`'s to say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.table import Table

from jetstream_pipeline.cli.numbers import Age
from jetstream_pipeline.cli.output import console
from jetstream_pipeline.cli.windows import check_streams
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.expire import expire as expire_snapshots
from jetstream_pipeline.iceberg.sync import sync as sync_tables
from jetstream_pipeline.iceberg.tables import shown_tables
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory

_streams = click.option("--stream", "streams", multiple=True, help="Repeatable. Default: every stream of the lake.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON: one object a line.")


@click.group()
def iceberg() -> None:
    """Look after the lake's tables in the catalogue that JETSTREAM_ICEBERG names."""


@iceberg.command()
@_streams
@_json
def sync(streams: tuple[str, ...], as_json: bool) -> None:
    """Make the tables hold what the lake holds now: one commit for each table that differs."""
    settings, data = _set()
    for stream in _chosen(streams, data):
        rows = sync_tables(settings.iceberg, data, stream)
        _print(map(asdict, rows), as_json, f"{stream}: as the lake")


@iceberg.command("list")
@_streams
@_json
def list_(streams: tuple[str, ...], as_json: bool) -> None:
    """The tables: what each shows, and the address of its metadata, by which engines open it without the catalogue."""
    settings, data = _set()
    for stream in _chosen(streams, data):
        _print(map(asdict, shown_tables(settings.iceberg, data, stream)), as_json, stream)


@iceberg.command()
@click.option(
    "--older-than", type=Age(), required=True, help="7d, or 36h; what a table shows now stays, however old it is."
)
@_streams
@_json
def expire(older_than: timedelta, streams: tuple[str, ...], as_json: bool) -> None:
    """Forget old snapshots, and delete the files that only they had.

    Until then, what was replaced or deleted in the lake can be read as it was, and takes its room on the disk.
    """
    settings, data = _set()
    before = datetime.now(UTC) - older_than
    for stream in _chosen(streams, data):
        _print(map(asdict, expire_snapshots(settings.iceberg, data, stream, before)), as_json, stream)


def _set() -> tuple[Settings, DataDirectory]:
    settings = Settings.read()
    if not settings.iceberg.get_secret_value():
        raise InvalidInput("no catalogue is set: JETSTREAM_ICEBERG=sqlite makes one in the data directory")
    return settings, settings.data


def _chosen(streams: Sequence[str], data: DataDirectory) -> list[str]:
    check_streams(data, streams)
    return list(streams) or data.lake.streams()


def _print(rows: Iterable[dict[str, Any]], as_json: bool, title: str) -> None:
    rows = list(rows)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, default=str))
    elif rows:
        table = Table(title=title)
        for name, value in rows[0].items():
            table.add_column(name, justify="right" if isinstance(value, int) else "left")
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row.values()))
        console().print(table)
