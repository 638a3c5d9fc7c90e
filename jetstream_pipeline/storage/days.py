"""A day's 24 windows as one file for each data set, and back: for streams whose windows are small.

<root>/<stream>/<data set>/date=YYYY-MM-DD/<name>.parquet   the rows of the 24 hours, with the column `hour`
<root>/<stream>/days/date=YYYY-MM-DD.json                   that this day's files count, and those of its hours do not

The second one's appearing and going is the one step in which readers see the one or the other. What does not count is
left for a while to queries that had listed it. What the files of the hours said of themselves is in the day's file.

Whoever works on windows holds their days (`held`), which are hours as long as that lasts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage.errors import Damaged, StorageError, WindowBusy
from jetstream_pipeline.storage.files import Lock, delete, exists, locked, make_directory, replacing, size
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.lake import Lake, check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.settling import settling
from jetstream_pipeline.storage.summary import SUMMARY_KEY, WindowSummary, parse_summary, read_summary
from jetstream_pipeline.window import Window

HOUR = "hour"
HOUR_KEY = "jetstream_hour:"
"""What the Parquet key-value entries begin with that hold what an hour's file was: one for each, as JSON."""
_WRITING_KEY = b"jetstream_writing"
_REMEDY = "put it back from a copy, or delete it and its mark, and replay its hours"
SEEN_SEC = 5.0
"""A query lists files when it begins, and looks which days count right after that: in so long at most."""
_OURS = (HOUR_KEY.encode(), _WRITING_KEY, b"ARROW:schema")

Writing = Mapping[str, Any]
"""What a `pyarrow.parquet.ParquetWriter` of a data set is told; may be written as JSON."""


class Hour(BaseModel):
    """What a day's file says of one of its hours."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    """Of the hour's own file."""
    row_groups: tuple[int, int]
    """The first, and the one after the last."""
    metadata: dict[str, str]
    """The key-value entries of the hour's own file."""


def read_hours(path: AnyPath) -> dict[int, Hour]:
    """What a day's file says of its hours; Damaged where it is none, StorageError where it cannot be read."""
    with reading(path, _REMEDY) as file:
        metadata = file.metadata.metadata or {}
    entries = {key.decode(): value for key, value in metadata.items() if key.startswith(HOUR_KEY.encode())}
    if not entries:
        raise Damaged(f"{path} is not a day's file; {_REMEDY}")
    return {int(key.removeprefix(HOUR_KEY)): Hour.model_validate_json(text) for key, text in sorted(entries.items())}


def summary_of(lake: Lake, stream: str, window: Window) -> WindowSummary:
    """What a whole window says of itself, wherever it is; errors as `read_summary`."""
    path = lake.events_path(stream, window)
    if not exists(path) and lake.is_of_a_day(stream, window):
        day = lake.day_path(stream, path.stem, window.start.date())
        return parse_summary(read_hours(day)[window.start.hour].metadata.get(SUMMARY_KEY.decode(), ""), day)
    return read_summary(path)


@contextmanager
def held(data: DataDirectory, stream: str, windows: Iterable[Window]) -> Iterator[None]:
    """Let the days of these windows be hours until the body ends: those that are one file are expanded first."""
    days = sorted({window.start.date() for window in windows})
    with ExitStack() as stack:
        for day in days:
            stack.enter_context(locked(_lock_path(data, stream, day), shared=True))
        for day in days:
            if exists(data.lake.mark_path(stream, day)):
                _expand(data, stream, day)
        yield
        # On another machine they may have been made one file meanwhile: what stands of an hour is newer than the day.
        for day in days if not isinstance(data.lake.root, Path) else ():
            if exists(data.lake.mark_path(stream, day)):
                _expand(data, stream, day)
    for day in days:
        with suppress(WindowBusy), alone(data, stream, day, WindowBusy("others hold it")) as lock:
            lock.remove()


@contextmanager
def alone(data: DataDirectory, stream: str, day: date, busy: PipelineError) -> Iterator[Lock]:
    """Hold a day against everybody who works on its windows; `busy` where somebody does."""
    with locked(_lock_path(data, stream, day), busy) as lock:
        yield lock


def _lock_path(data: DataDirectory, stream: str, day: date) -> Any:
    folder = data.staging / check_name(stream)
    make_directory(folder)
    return folder / f"{day}.lock"


def write_day(sources: Sequence[tuple[int, AnyPath]], target: AnyPath, writing: Writing) -> None:
    """Write the rows of hours' files, in order, each row group as it is, into a day's file.

    StorageError where one cannot be read or written; Damaged where it is not as it was written.
    """
    with reading(sources[0][1]) as file:
        schema = file.schema_arrow.remove_metadata().append(pa.field(HOUR, pa.int32(), nullable=False))
    with replacing(target) as temporary, pq.ParquetWriter(temporary, schema, **_with_hour(writing)) as writer:
        first = 0
        for hour, path in sources:
            with reading(path) as file:
                _check_columns(path, file.schema_arrow, schema)
                count = file.num_row_groups
                for number in range(count):
                    rows = file.read_row_group(number)
                    column = pa.repeat(pa.scalar(hour, pa.int32()), rows.num_rows)
                    rows = pa.table([*rows.columns, column], schema)
                    writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
                said = Hour(bytes=size(path), row_groups=(first, first + count), metadata=_metadata(file))
            writer.add_key_value_metadata({f"{HOUR_KEY}{hour:02}": said.model_dump_json()})
            first += count
        writer.add_key_value_metadata({_WRITING_KEY: json.dumps(writing)})


def _check_columns(path: AnyPath, found: pa.Schema, day: pa.Schema) -> None:
    if (found.names, found.types) != (day.names[:-1], day.types[:-1]):
        raise StorageError(
            f"{path} has other columns than its day's first hour, as another version of this program wrote it; have "
            "both of the same version, or leave the day as it is"
        )


def _with_hour(writing: Writing) -> dict[str, Any]:
    """The column `hour` is compressed as all are, and has statistics: conditions on it leave row groups out."""
    options = dict(writing)
    if isinstance(options.get("write_statistics"), list):
        options["write_statistics"] = [*options["write_statistics"], HOUR]
    if isinstance(options.get("compression_level"), dict):
        options["compression_level"] = {**options["compression_level"], HOUR: 1}
    return options


def _metadata(file: pq.ParquetFile) -> dict[str, str]:
    found = file.metadata.metadata or {}
    return {key.decode(): value.decode() for key, value in found.items() if not key.startswith(_OURS)}


def write_hours(day: AnyPath, targets: Mapping[int, AnyPath]) -> None:
    """Write hours' files from a day's, as they were; those that stand already stay."""
    said = read_hours(day)
    with reading(day, _REMEDY) as file:
        writing = json.loads((file.metadata.metadata or {})[_WRITING_KEY])
        schema = file.schema_arrow.remove_metadata()
        schema = schema.remove(schema.get_field_index(HOUR))
        for number, target in targets.items():
            if number not in said or exists(target):
                continue
            with replacing(target) as temporary, pq.ParquetWriter(temporary, schema, **writing) as writer:
                for group in range(*said[number].row_groups):
                    rows = file.read_row_group(group, schema.names)
                    writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
                writer.add_key_value_metadata(said[number].metadata)


def mark(lake: Lake, stream: str, day: date) -> None:
    """From now on the day's files count."""
    with replacing(lake.mark_path(stream, day)) as temporary:
        temporary.write_text(json.dumps({"compacted_at": datetime.now(UTC).isoformat()}) + "\n")


def expand(data: DataDirectory, stream: str, day: date) -> bool:
    """Make a day hours again; whether it was one file. StorageError where a file cannot be read or written."""
    with locked(_lock_path(data, stream, day), shared=True):
        return exists(data.lake.mark_path(stream, day)) and _expand(data, stream, day)


def _expand(data: DataDirectory, stream: str, day: date) -> bool:
    lake = data.lake
    with settling(data, stream):
        path = lake.mark_path(stream, day)
        if not exists(path):
            return False
        datasets = [name for name in lake.day_datasets(stream) if exists(lake.day_path(stream, name, day))]
        for name in datasets:
            targets = {window.start.hour: lake.hour_path(stream, name, window) for window in hours_of(day)}
            write_hours(lake.day_path(stream, name, day), targets)
        time.sleep(SEEN_SEC)
        delete(path)
        # An object may be the data file of a catalogue's table, which a later compaction asks first.
        for name in datasets if isinstance(lake.root, Path) else ():
            # Views read days by a pattern, which is to match something: the last one is left to who renews the views.
            if lake.day_files(stream, name) != [day]:
                delete(lake.day_path(stream, name, day))
    return True
