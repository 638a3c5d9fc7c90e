"""A window's file: the same bytes for the same rows, within bounded memory, and what is damaged of it is noticed."""

import errno
import hashlib
import random
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.storage import window_file
from jetstream_pipeline.storage.errors import Damaged, StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.parquet import reading
from jetstream_pipeline.storage.summary import Counts, WindowSummary, read_summary
from jetstream_pipeline.storage.window_file import RowGroups, WindowWriter, count, write_window
from jetstream_pipeline_tests.disks import empty, flip, flip_last, truncate
from jetstream_pipeline_tests.windows import commit, rows_of, store

LONG = "x" * 1_000_000


def events(*numbers: int) -> pa.RecordBatch:
    return decode([commit('{"text":"hi"}', number=number) for number in numbers], "host").events


def copied(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows in memory of their own, as they come from the network."""
    return pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in batch], schema=batch.schema)


def describing(data: DataDirectory, seconds: float = 1.0) -> Callable[[Counts], WindowSummary]:
    summary = store(data, [], seconds=seconds)
    return lambda counts: summary.model_copy(update=counts.model_dump())


def data_pages(path: Path) -> bytes:
    content = path.read_bytes()
    (footer,) = struct.unpack("<I", content[-8:-4])
    return content[: -8 - footer]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of few rows have several row groups."""
    monkeypatch.setattr(window_file, "_ROW_GROUP_ROWS", 65_536)


@pytest.mark.usefixtures("small_groups")
def test_the_same_rows_in_other_batches_make_the_same_bytes(data: DataDirectory) -> None:
    """DuckDB opens a file once for its footer and once for its data: a replacement between the two goes unnoticed."""
    texts = [commit('{"text":"%s"}' % ("x" * (number % 700)), number=number) for number in range(70_000)]
    rows = decode(texts, "host").events
    chance = random.Random(1)
    written, contents = [], []
    for number in range(2):
        batches, start = [], 0
        while start < rows.num_rows:
            size = chance.randint(1, 9_000)
            batches.append(rows.slice(start, size))
            start += size
        written.append(data.root / f"{number}.parquet")
        contents.append(write_window(written[-1], batches, describing(data, seconds=10.0**number)).content)
    assert data_pages(written[0]) == data_pages(written[1])
    assert contents[0] == contents[1] == read_summary(written[0]).content
    assert pq.read_metadata(written[0]).num_row_groups == 2
    assert rows_of(written[0]).equals(pa.Table.from_batches([rows]))


def content_of(data: DataDirectory, *batches: pa.RecordBatch) -> str:
    return write_window(data.root / "events.parquet", batches, describing(data)).content


def changed(batch: pa.RecordBatch, column: str, row: int) -> pa.RecordBatch:
    """The same rows but for one value."""
    values = batch[column].to_pylist()
    place = batch.schema.get_field_index(column)
    field = batch.schema.field(place)
    values[row] = f"{values[row]}x" if pa.types.is_string(field.type) else (values[row] or 0) + 1
    return batch.set_column(place, field, pa.array(values, field.type))


def test_content_is_another_for_other_rows_or_another_order(data: DataDirectory) -> None:
    rows = events(*range(50))
    contents = [
        content_of(data, rows),
        content_of(data, rows.slice(0, 49)),
        content_of(data, rows.slice(1)),
        content_of(data, rows, rows.slice(49)),
        content_of(data, rows.take(list(reversed(range(50))))),
        content_of(data, rows.slice(0, 48), rows.slice(49), rows.slice(48, 1)),
        content_of(data),
        *(content_of(data, changed(rows, name, row)) for name in EVENT_SCHEMA.names for row in (0, 49)),
    ]
    assert all(re.fullmatch(r"[0-9a-f]{32}", content) for content in contents)
    assert len(set(contents)) == len(contents) == 7 + 2 * len(EVENT_SCHEMA.names)
    assert content_of(data, *(rows.slice(number, 1) for number in range(50))) == contents[0]
    assert content_of(data) == hashlib.sha256(b"PAR1").hexdigest()[:32]


@pytest.mark.usefixtures("small_groups")
def test_content_is_of_every_row_group(data: DataDirectory) -> None:
    rows = decode([commit("{}", number=number) for number in range(70_000)], "host").events
    contents = {content_of(data, one) for one in (rows, changed(rows, "rkey", 0), changed(rows, "rkey", 69_999))}
    assert pq.read_metadata(data.root / "events.parquet").num_row_groups == 2
    assert len(contents) == 3


def test_what_a_file_would_hold_has_no_content_yet() -> None:
    assert count([events(1)]).content == ""


def test_many_small_batches_cost_little_more_than_their_rows(data: DataDirectory) -> None:
    describe = describing(data)
    rows = [events(number) for number in range(100)]
    before = pa.total_allocated_bytes()
    used = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal used
        for number in range(5_000):
            yield copied(rows[number % 100])
        used = pa.total_allocated_bytes() - before

    write_window(data.root / "events.parquet", batches(), describe)
    assert pq.read_metadata(data.root / "events.parquet").num_rows == 5_000
    assert 0 < used < 2_000_000


def with_record(number: int) -> bytes:
    return commit(f'{{"text":"{LONG}"}}', number=number)


def with_payload(number: int) -> bytes:
    return f'{{"did":"did:plc:a","time_us":{number},"kind":"identity","identity":{{"a":"{LONG}"}}}}'.encode()


def with_key(number: int) -> bytes:
    return commit("{}", number=number).replace(b'"rkey":"', b'"rkey":"' + LONG.encode())


@pytest.mark.parametrize("message", [with_record, with_payload, with_key])
def test_large_events_make_small_row_groups(data: DataDirectory, message: Callable[[int], bytes]) -> None:
    batch = decode([message(number) for number in range(8)], "host").events
    assert batch.num_rows == 8
    describe, path = describing(data), data.root / "events.parquet"
    before = pa.total_allocated_bytes()
    highest = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal highest
        for _ in range(30):
            highest = max(highest, pa.total_allocated_bytes() - before)
            yield copied(batch)

    write_window(path, batches(), describe)
    metadata = pq.read_metadata(path)
    assert metadata.num_rows == 240
    assert max(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)) < 100_000_000
    assert highest < 450_000_000


def test_a_row_group_is_written_while_the_next_one_is_added_to(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_file, "_ROW_GROUP_ROWS", 100)
    path, added = data.root / "rows.parquet", threading.Event()

    def written() -> None:
        assert added.wait(30), "nothing could be added meanwhile"

    with closing(RowGroups(path, EVENT_SCHEMA, written=written)) as groups:
        groups.add(events(*range(199)))
        added.set()
        groups.finish()
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(number).num_rows for number in range(2)] == [100, 99]


def test_a_row_group_that_cannot_be_written_is_told(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written in another thread, and what comes after it must not be taken for the file."""
    monkeypatch.setattr(window_file, "_ROW_GROUP_ROWS", 100)
    written: list[int] = []

    def write_table(writer: pq.ParquetWriter, rows: pa.Table, **_: int) -> None:
        written.append(rows.num_rows)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write_table)
    writer = WindowWriter(data.root / "events.parquet")
    rows = events(*range(300))
    with closing(writer):
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                writer.add(rows)
    with pytest.raises(OSError, match="No space left"):
        writer.finish(describing(data))
    assert written == [100]


def test_no_bit_that_flips_among_the_rows_is_read_as_data(data: DataDirectory) -> None:
    path, chance = data.root / "events.parquet", random.Random(1)
    rows = events(*range(3_000))
    write_window(path, [rows], describing(data))
    content, pages = path.read_bytes(), len(data_pages(path))
    told = 0
    for _ in range(100):
        path.write_bytes(content)
        flip(path, chance.randrange(len(b"PAR1"), pages))
        try:
            with reading(path) as file:
                assert file.read().drop_columns("position").equals(pa.Table.from_batches([rows]))
        except Damaged:
            told += 1
    assert told > 90


@pytest.mark.parametrize("damage", [truncate, empty, flip_last])
def test_a_file_that_does_not_say_what_it_is_is_damaged(data: DataDirectory, damage: Callable[[Path], None]) -> None:
    path = data.root / "events.parquet"
    written = write_window(path, [events(1)], describing(data))
    assert read_summary(path) == written
    damage(path)
    with pytest.raises(Damaged, match=r"events\.parquet is damaged .*; delete it and replay"):
        read_summary(path)


def test_a_parquet_file_of_somebody_else_is_no_windows_file(data: DataDirectory) -> None:
    data.root.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_batches([events(1)]), data.root / "events.parquet")
    with pytest.raises(Damaged, match=r"events\.parquet is not a window's file"):
        read_summary(data.root / "events.parquet")


def test_what_cannot_be_read_is_not_taken_for_damaged(data: DataDirectory) -> None:
    """It may be whole, and another try may read it."""
    with pytest.raises(StorageError, match="cannot read") as caught:
        read_summary(data.root / "events.parquet")
    assert not isinstance(caught.value, Damaged)
