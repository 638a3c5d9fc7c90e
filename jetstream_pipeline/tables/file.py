"""Writing a table's Parquet file: small, and quick to query. What its rows are is `definitions`'.

An hour's rows are one row group, unless there are very many: an account's name stands in its dictionary once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jetstream_pipeline.tables.definitions import Table

ROWS_AT_ONCE = 16_384
_ROW_GROUP_ROWS = 1_048_576
_ROW_GROUP_BYTES = 512 * 1024 * 1024
_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "dictionary_pagesize_limit": 64 * 1024 * 1024,
    "write_page_checksum": True,
    "store_schema": False,
}
"""Most bytes are identifiers, which are random letters: the lowest of zstd's levels makes them smallest and soonest."""


def written_as(table: Table) -> str:
    """How a table's rows become bytes: other options, another file."""
    encodings = {column.name: column.encoding for column in table.stored}
    return f"{_OPTIONS} {_ROW_GROUP_ROWS} {_ROW_GROUP_BYTES} {encodings}"


def writing(table: Table) -> dict[str, Any]:
    """What a `pyarrow.parquet.ParquetWriter` of a table's rows is told."""
    encodings = {column.name: column.encoding for column in table.stored if column.encoding}
    repeated = [_leaf(column.name, column.type) for column in table.stored if column.name not in encodings]
    return {"use_dictionary": repeated, "column_encoding": encodings, **_OPTIONS}


def _leaf(name: str, kind: str) -> str:
    """The Parquet column of a table's."""
    return f"{name}.list.element" if kind.endswith("[]") else name


def write_rows(table: Table, batches: pa.RecordBatchReader, target: Path, metadata: Mapping[str, str]) -> None:
    """Write a table's rows in the order given, and what the file says of itself."""
    with pq.ParquetWriter(target, batches.schema, **writing(table)) as writer:
        for group in _groups(batches):
            writer.write_table(group, row_group_size=_ROW_GROUP_ROWS)
        writer.add_key_value_metadata(metadata)


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if waiting and (rows + batch.num_rows > _ROW_GROUP_ROWS or size + batch.nbytes > _ROW_GROUP_BYTES):
            yield pa.Table.from_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
    if waiting:
        yield pa.Table.from_batches(waiting)
