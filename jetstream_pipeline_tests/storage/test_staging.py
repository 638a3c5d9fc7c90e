"""A staged window is bounded in memory, the same file for the same rows, and out of sight until it is committed."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline_tests.windows import HOUR, commit, store


def committed(folder: Path, batches: list[pa.RecordBatch], seconds: float) -> Path:
    data = DataDirectory(folder)
    summary = store(data, [], seconds=seconds)
    with staged(data, "network", HOUR) as files:
        for batch in batches:
            files.add(batch)
        return files.commit(summary)


def data_pages(path: Path) -> bytes:
    content = path.read_bytes()
    (footer,) = struct.unpack("<I", content[-8:-4])
    return content[: -8 - footer]


def test_the_same_rows_in_other_batches_make_the_same_bytes(tmp_path: Path) -> None:
    """DuckDB opens a file once for its footer and once for its data: a replacement between the two goes unnoticed."""
    messages = [commit('{"text":"%s"}' % ("x" * (number % 700)), number=number) for number in range(70_000)]
    rows = decode(messages, "host").events
    chance = random.Random(1)
    written = []
    for number in range(2):
        batches, start = [], 0
        while start < rows.num_rows:
            size = chance.randint(1, 9_000)
            batches.append(rows.slice(start, size))
            start += size
        written.append(committed(tmp_path / str(number), batches, seconds=10.0**number))
    assert data_pages(written[0]) == data_pages(written[1])
    assert pq.read_metadata(written[0]).num_row_groups == 2
    assert pq.ParquetFile(written[0]).read().equals(pa.Table.from_batches([rows]))


def test_many_small_batches_cost_little_more_than_their_rows(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    summary = store(data, [])
    rows = [decode([commit('{"text":"hi"}', number=number)], "host").events for number in range(100)]
    before = pa.total_allocated_bytes()
    with staged(data, "network", HOUR) as files:
        for number in range(20_000):
            row = rows[number % 100]
            files.add(pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in row], schema=row.schema))
        used = pa.total_allocated_bytes() - before
        path = files.commit(summary)
    assert pq.read_metadata(path).num_rows == 20_000
    assert used < 30_000_000


LONG = "x" * 1_000_000


def with_payload(number: int) -> bytes:
    return f'{{"did":"did:plc:a","time_us":{number},"kind":"identity","identity":{{"a":"{LONG}"}}}}'.encode()


def with_key(number: int) -> bytes:
    return commit("{}", number=number).replace(b'"rkey":"', b'"rkey":"' + LONG.encode())


@pytest.mark.parametrize(
    "message", [lambda number: commit(f'{{"text":"{LONG}"}}', number=number), with_payload, with_key]
)
def test_large_events_make_small_row_groups(tmp_path: Path, message: Callable[[int], bytes]) -> None:
    batch = decode([message(number) for number in range(8)], "host").events
    assert batch.num_rows == 8
    before = pa.total_allocated_bytes()
    data = DataDirectory(tmp_path)
    summary = store(data, [])
    highest = 0
    with staged(data, "network", HOUR) as files:
        for _ in range(30):
            files.add(pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in batch], schema=batch.schema))
            highest = max(highest, pa.total_allocated_bytes() - before)
        path = files.commit(summary)
    metadata = pq.read_metadata(path)
    assert metadata.num_rows == 240
    assert max(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)) < 64_000_000
    assert highest < 200_000_000


def test_what_fails_leaves_the_lake_as_it_was(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    store(data, [commit("{}")])
    before = data.lake.events_path("network", HOUR).read_bytes()
    with pytest.raises(RuntimeError):
        _stage_and_fail(data)
    assert data.lake.events_path("network", HOUR).read_bytes() == before
    assert [path.name for path in data.staging.rglob("*") if path.is_file()] == ["2026-07-04-1400.lock"]


def _stage_and_fail(data: DataDirectory) -> None:
    with staged(data, "network", HOUR) as files:
        files.add(decode([commit("{}", number=1)], "host").events)
        raise RuntimeError
