"""Like rows lie together in a window's file, and stream order is not lost."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.storage.event_layout import FILE_SCHEMA, WRITING, arranged, in_stream_order
from jetstream_pipeline_tests.windows import commit

IDENTITY = b'{"did":"did:plc:a","time_us":1,"kind":"identity","identity":{}}'
COLLECTIONS = ("app.bsky.feed.post", "app.bsky.feed.like", "a.b.c", "z.y.x")


def events(collections: list[str | None]) -> pa.RecordBatch:
    """An event of each collection, None being an identity's, in this order."""
    messages = [
        IDENTITY if collection is None else commit("{}", collection, number)
        for number, collection in enumerate(collections)
    ]
    return decode(messages, "host").events


def rows_of(batch: pa.RecordBatch, first: int = 0) -> pa.Table:
    return pa.Table.from_batches([rows for _, rows in arranged(batch, first)]).combine_chunks()


@given(groups=st.lists(st.lists(st.sampled_from([*COLLECTIONS, None]), min_size=1), min_size=1, max_size=4))
def test_rows_are_sorted_by_collection_and_come_back_in_stream_order(
    groups: list[list[str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("layout") / "events.parquet"
    batches = [events(group) for group in groups]
    with pq.ParquetWriter(path, FILE_SCHEMA, **WRITING) as writer:
        first = 0
        for batch in batches:
            writer.write_table(rows_of(batch, first))
            first += batch.num_rows
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number).to_pylist()
            order = [(row["collection"] or "", row["position"]) for row in rows]
            assert order == sorted(order)
        assert pa.Table.from_batches(in_stream_order(file), EVENT_SCHEMA).equals(pa.Table.from_batches(batches))
        some = pa.Table.from_batches(in_stream_order(file, ["rkey", "did"], [file.num_row_groups - 1]))
        assert some.equals(pa.Table.from_batches(batches[-1:]).select(["rkey", "did"]))


def test_more_collections_than_sixteen_bits_hold(tmp_path: Path) -> None:
    batch = events([f"a.b.c{number}" for number in range(70_000)])
    assert rows_of(batch)["collection"].to_pylist() == sorted(batch["collection"].to_pylist())


def test_stream_order_comes_some_rows_at_a_time(tmp_path: Path) -> None:
    batch = events(["a.b.c", "a.b.b"] * 40_000)
    pq.write_table(rows_of(batch), tmp_path / "events.parquet")
    with pq.ParquetFile(tmp_path / "events.parquet") as file:
        parts = list(in_stream_order(file))
    assert max(part.num_rows for part in parts) < 40_000
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([batch]))
