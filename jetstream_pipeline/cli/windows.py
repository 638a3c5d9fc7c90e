"""What commands that work through windows share: which streams there are, in the lake and declared, how progress is
told, and what follows a window that has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

import jetstream_pipeline
from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg.following import follow
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.replay.reading import Progress
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.days import held
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table, stale_tables
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window

if TYPE_CHECKING:
    from jetstream_pipeline.streams.stream import Stream

_PROGRESS_SEC = 5.0


def options(settings: Settings, data: DataDirectory) -> Options:
    """How the hosts are spoken to."""
    return Options(transport=settings.transport, archive=access(settings, data))


def access(settings: Settings, data: DataDirectory) -> Access:
    """How their archives are asked."""
    return Access(data.archive, settings.api_token)


def derive_tables(
    stream: str, window: Window, data: DataDirectory, collections: tuple[str, ...], *, only_stale: bool = False
) -> None:
    """Those that a stream of these collections has events for; `only_stale`: that are lacking, or of other events."""
    tables = [table for table in TABLES if table.is_of(collections)]
    with held(data, stream, [window]):
        for table in stale_tables(tables, stream, window, data.lake) if only_stale else tables:
            build_table(table, stream, window, data.lake)


def catalogue_follows(settings: Settings, data: DataDirectory, stream: str) -> bool:
    """Whether the stream's Iceberg tables show what the lake holds, if there are to be any; what keeps them is told."""
    if lag := follow(settings.iceberg, data, stream):
        click.echo(" ".join(str(lag).split()), err=True)
    return lag is None


def reporter(window: Window) -> Callable[[Progress], None]:
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


def declared_here(settings: Settings) -> list[Stream]:
    """The streams that this package declares; InvalidInput where a declaration is wrong."""
    # Declarations are Dagster's, which takes a second to import.
    from jetstream_pipeline.orchestration.loading import declared_streams

    return declared_streams(Path(jetstream_pipeline.__file__).parent, settings)


def check_streams(data: DataDirectory, names: Iterable[str]) -> None:
    """InvalidInput for a name that no stream of the lake has."""
    known = data.lake.streams()
    for name in names:
        if name not in known:
            raise InvalidInput(f"there is no stream {name} in {data.shown}; there: {', '.join(known) or 'none'}")
