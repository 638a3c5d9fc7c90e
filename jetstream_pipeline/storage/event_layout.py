"""How a window's events lie in Parquet: order, encodings, compression. What is in a file is `window_file`'s.

Within a row group the rows are sorted by collection, in stream order within each: like lies beside like, which makes
files smaller, and who wants one collection reads its pages only. `position` says where in the stream a row belongs.
The sizes were measured by benchmarks/layout.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jetstream_pipeline.events.schema import EVENT_DESCRIPTIONS, EVENT_SCHEMA

POSITION = "position"
FILE_SCHEMA = EVENT_SCHEMA.append(pa.field(POSITION, pa.int64(), nullable=False))
FILE_DESCRIPTIONS = EVENT_DESCRIPTIONS | {POSITION: "The event's place in its window in stream order, from 0."}

_ROWS_AT_ONCE = 32_768
_RECORD_LEVEL, _OTHER_LEVEL = 3, 1
"""zstd gains nothing by more effort on what is random, and names are."""
_PAGE_BYTES = 4 * 1024 * 1024
"""Whole windows of the compressor: records in pages of a megabyte are a fifth larger."""
_DICTIONARY_BYTES = 16 * 1024 * 1024
_DICTIONARY = ["did", "kind", "operation", "collection", "host"]
_ENCODINGS = {
    "time_us": "DELTA_BINARY_PACKED",
    "seq": "DELTA_BINARY_PACKED",
    POSITION: "DELTA_BINARY_PACKED",
    "rkey": "DELTA_BYTE_ARRAY",
    "rev": "DELTA_BYTE_ARRAY",
    "cid": "DELTA_BYTE_ARRAY",
    "record": "DELTA_BYTE_ARRAY",
}
_WITH_STATISTICS = ["time_us", "seq", "did", "kind", "operation", "collection", "host", POSITION]
"""The least and the largest record tell nobody anything."""

WRITING = {
    "compression": "zstd",
    "compression_level": {name: _RECORD_LEVEL if name == "record" else _OTHER_LEVEL for name in FILE_SCHEMA.names},
    "use_dictionary": _DICTIONARY,
    "column_encoding": _ENCODINGS,
    "data_page_size": _PAGE_BYTES,
    "dictionary_pagesize_limit": _DICTIONARY_BYTES,
    "write_statistics": _WITH_STATISTICS,
}
"""What a `pyarrow.parquet.ParquetWriter` of `FILE_SCHEMA` is told."""


def arranged(events: pa.RecordBatch, first: int) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Events in stream order, the first of which has the position `first`, by collection, in rows of `FILE_SCHEMA`."""
    ranks, names = _ranks(events["collection"])
    order = np.argsort(ranks, kind="stable")
    rows = events.take(pa.array(order))
    columns = [*rows.columns, pa.array(order + first, pa.int64())]
    rows = pa.RecordBatch.from_arrays(columns, schema=FILE_SCHEMA)
    ends = np.cumsum(np.bincount(ranks, minlength=len(names)))
    for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True):
        if end > start:
            yield name, rows.slice(start, end - start)


def _ranks(collections: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Each row's collection as a number, and the collections by number: none, then all in alphabetical order."""
    encoded = collections.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    ranks = np.empty(len(order) + 1, np.int64)
    ranks[order.to_numpy()] = np.arange(1, len(ranks))
    ranks[-1] = 0
    numbers = ranks[encoded.indices.fill_null(-1).to_numpy()]
    # 16 bits sort fastest.
    fitting = numbers.astype(np.uint16) if len(ranks) <= np.iinfo(np.uint16).max else numbers
    return fitting, ["", *encoded.dictionary.take(order).to_pylist()]


def in_stream_order(
    file: pq.ParquetFile, columns: Sequence[str] = EVENT_SCHEMA.names, row_groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """These columns of the events of a window's file, or of some of its row groups, some rows at a time."""
    for number in range(file.num_row_groups) if row_groups is None else row_groups:
        rows = file.read_row_group(number, [*columns, POSITION])
        if POSITION not in rows.column_names:
            raise pa.ArrowInvalid("of an older layout, which does not say in which order its events came")
        order = np.argsort(rows[POSITION].to_numpy(), kind="stable")
        rows = rows.select(columns).cast(pa.schema([EVENT_SCHEMA.field(name) for name in columns]))
        for start in range(0, len(order), _ROWS_AT_ONCE):
            taken = rows.take(pa.array(order[start : start + _ROWS_AT_ONCE]))
            yield from taken.combine_chunks().to_batches()
