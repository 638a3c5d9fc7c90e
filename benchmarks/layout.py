"""What a window's file takes on disk, by column, beside other ways of storing the same events.

The events are a simulated network's, of real shapes and sizes. The others: the same rows as plain zstd-3 Parquet in
order of arrival, the server's messages as NDJSON under `zstd -19`, and our own layout with one choice made otherwise.

    python benchmarks/layout.py [--events 600000] [--sample 200000] [--short]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard
from rich import box
from rich.table import Table
from side_by_side import console, machine

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.storage import window_file
from jetstream_pipeline.storage.event_layout import FILE_SCHEMA, WRITING, arranged
from jetstream_pipeline.storage.parquet import bytes_by_column
from jetstream_pipeline.storage.window_file import Arrangement, RowGroups, as_given

START_US = int(datetime(2026, 7, 4, 12, tzinfo=UTC).timestamp()) * 1_000_000
RATE = 355.0
BATCH = 20_000
SHORT_EVENTS = 50_000


def main() -> None:
    arguments = parse_arguments()
    print(machine())
    messages = list(simulated(arguments.events))
    batches = [
        decode(messages[start : start + BATCH], "jetstream2.us-east.bsky.network").events
        for start in range(0, len(messages), BATCH)
    ]
    with tempfile.TemporaryDirectory() as folder:
        show(list(ways(batches, Path(folder) / "events.parquet")), len(messages))
    sample = messages[: arguments.sample]
    compressed = zstandard.ZstdCompressor(level=19).compress(b"\n".join(sample))
    print(f"NDJSON, zstd -19, {len(sample):,} of them: {len(compressed) / len(sample):.1f} bytes/event")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--sample", type=int, default=200_000, help="events that zstd -19 compresses: a minute or so")
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.events = arguments.sample = SHORT_EVENTS
    return arguments


def simulated(events: int) -> Iterator[bytes]:
    seconds = int(events / RATE) + 1
    for event, _ in zip(Network(0, RATE).events(START_US, START_US + seconds * 2_000_000), range(events), strict=False):
        yield event.message


def ways(batches: Sequence[pa.RecordBatch], path: Path) -> Iterator[tuple[str, float, dict[str, int]]]:
    """Name, CPU seconds and bytes by column of each way."""
    plain = {"compression": "zstd", "compression_level": 3}
    yield "ours", *written(batches, path, FILE_SCHEMA, arranged, WRITING)
    yield "plain zstd-3, as they came", *written(batches, path, batches[0].schema, as_given, plain)
    yield "ours, as they came", *written(batches, path, batches[0].schema, as_given, without("position", WRITING))
    for name, change in (
        ("ours, pages of 1 MB", {"data_page_size": 1 << 20}),
        ("ours, records at level 1", {"compression_level": 1}),
        ("ours, records at level 6", {"compression_level": WRITING["compression_level"] | {"record": 6}}),
        ("ours, no delta encodings", {"column_encoding": None}),
        ("ours, DIDs without dictionary", {"use_dictionary": ["kind", "operation", "collection", "host"]}),
    ):
        yield name, *written(batches, path, FILE_SCHEMA, arranged, WRITING | change)
    for rows in (65_536, 131_072, 262_144):
        with row_groups_of(rows):
            yield f"ours, {rows:,} rows a group", *written(batches, path, FILE_SCHEMA, arranged, WRITING)


def without(column: str, writing: dict[str, Any]) -> dict[str, Any]:
    """The same for files that lack a column."""
    return {
        option: {name: one for name, one in value.items() if name != column}
        if isinstance(value, dict)
        else [name for name in value if name != column]
        if isinstance(value, list)
        else value
        for option, value in writing.items()
    }


@contextmanager
def row_groups_of(rows: int) -> Iterator[None]:
    chosen = window_file._ROW_GROUP_ROWS, window_file._ROW_GROUP_BYTES
    window_file._ROW_GROUP_ROWS, window_file._ROW_GROUP_BYTES = rows, sys.maxsize
    try:
        yield
    finally:
        window_file._ROW_GROUP_ROWS, window_file._ROW_GROUP_BYTES = chosen


def written(
    batches: Sequence[pa.RecordBatch],
    path: Path,
    schema: pa.Schema,
    arrangement: Arrangement,
    writing: dict[str, Any],
) -> tuple[float, dict[str, int]]:
    before = time.process_time()
    with closing(RowGroups(path, schema, arrangement, **writing)) as rows:
        for batch in batches:
            rows.add(batch)
        rows.finish()
    return time.process_time() - before, bytes_by_column(path)


def show(ways: Sequence[tuple[str, float, dict[str, int]]], events: int) -> None:
    table = Table(title=f"bytes/event, {events:,} events", title_justify="left", box=box.MARKDOWN)
    table.add_column("layout")
    columns = list(ways[0][2])
    for name in ("all", "CPU µs/event", *columns):
        table.add_column(name, justify="right")
    for name, seconds, sizes in ways:
        cells = [f"{sum(sizes.values()) / events:.1f}", f"{seconds / events * 1e6:.2f}"]
        table.add_row(name, *cells, *(f"{sizes.get(column, 0) / events:.2f}" for column in columns))
    console().print(table)


if __name__ == "__main__":
    main()
