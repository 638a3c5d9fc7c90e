"""What follows a window or a table that was put into the lake, on every road: its table in the catalogue is brought up
to date. The lake is the truth: a catalogue that lags is told, and fails nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.iceberg.contents import DATASETS
from jetstream_pipeline.iceberg.sync import sync
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath


def follow(
    setting: SecretStr, data: DataDirectory, stream: str, datasets: Sequence[str] = DATASETS
) -> PipelineError | None:
    """Bring a stream's tables up to date, where a catalogue is set. What keeps one from it, if anything does: whatever
    the tables lack then, the next time gives it to them."""
    if not setting.get_secret_value():
        return None
    try:
        sync(setting, data, stream, datasets)
    except PipelineError as error:
        return error
    return None


def leaving(setting: SecretStr, data: DataDirectory, stream: str) -> Callable[[Sequence[AnyPath]], None] | None:
    """What is to be told which files of the lake are about to be deleted, so that no table shows them any more; it
    raises as `sync`. None where nobody need be told: on a disk, a table has links of its own."""
    if isinstance(data.lake.root, Path) or not setting.get_secret_value():
        return None
    return partial(_leave, setting, data, stream)


def _leave(setting: SecretStr, data: DataDirectory, stream: str, paths: Sequence[AnyPath]) -> None:
    if paths:
        sync(setting, data, stream, leaving=paths)
