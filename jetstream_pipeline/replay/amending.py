"""Replacing the file of a window that stands by one with more events in it, or with more to say of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.replay.merging import Insertions
from jetstream_pipeline.replay.seams import neighbours
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.event_layout import in_stream_order
from jetstream_pipeline.storage.files import Version, move, told, version
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.settling import settling
from jetstream_pipeline.storage.summary import Counts, WindowSummary
from jetstream_pipeline.storage.window_file import write_window
from jetstream_pipeline.window import Window


class Changed(PipelineError):
    """The window, or one beside it, was replaced meanwhile: what was found out about it no longer holds."""

    passing = True


def standing(data: DataDirectory, stream: str, window: Window) -> tuple[Version | None, ...]:
    """What changes when the window or one beside it is replaced."""
    lake = data.lake
    return tuple(map(version, (lake.events_path(stream, window), *neighbours(lake, stream, window))))


def rows(path: AnyPath) -> Iterator[pa.RecordBatch]:
    """A window's events in stream order."""
    with reading(path) as file:
        yield from in_stream_order(file)


def amend(
    data: DataDirectory,
    stream: str,
    window: Window,
    found: tuple[Version | None, ...],
    insertions: Insertions,
    describe: Callable[[Counts], WindowSummary],
    folder: Path,
) -> WindowSummary:
    """Put events among those of a window that stands, in one step. Changed where it is not as it was `found`.

    The new file is written in `folder` first.
    """
    path = data.lake.events_path(stream, window)
    written = folder / "amended.parquet"
    try:
        with told(folder, "write"):
            summary = write_window(written, insertions.merged(rows(path)), describe)
            with settling(data, stream):
                if standing(data, stream, window) != found or data.lake.is_of_a_day(stream, window):
                    raise Changed(f"{stream} {window} was replaced meanwhile; try again")
                move(written, path)
    except pa.ArrowException as error:
        raise StorageError(f"cannot write {written}: {error}") from error
    return summary
