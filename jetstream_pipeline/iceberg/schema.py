"""What the columns of a data set are in Iceberg: names, types, meanings, and of which of them a table keeps bounds."""

from __future__ import annotations

import pyarrow as pa

from jetstream_pipeline.storage.days import HOUR
from jetstream_pipeline.storage.event_layout import FILE_DESCRIPTIONS, FILE_SCHEMA
from jetstream_pipeline.storage.lake import ARCHIVE, EVENTS
from jetstream_pipeline.tables.definitions import TABLES

_BOUNDED = ("time_us", "time", "seq", "did", "kind", "operation", "collection", "position", "created_at")
"""Columns that queries are narrowed by. The least and the largest of strangers' texts tell nobody anything."""
_ARROW_TYPES = {
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "VARCHAR": pa.string(),
    "VARCHAR[]": pa.list_(pa.string()),
}
_DOC = b"doc"
"""Where pyiceberg looks for what a field means."""


def columns(dataset: str) -> pa.Schema:
    """A data set's columns as the files have them from now on, with what they mean. Each may be null: an older file
    may not have it."""
    if dataset == ARCHIVE:
        return pa.schema(_of_events())
    if dataset == EVENTS:
        return pa.schema([*_of_events(), _OF_DAYS])
    table = next(table for table in TABLES if table.name == dataset)
    stored = [_field(column.name, _ARROW_TYPES[column.type], column.description) for column in table.stored]
    return pa.schema([*stored, _OF_DAYS])


def _of_events() -> list[pa.Field]:
    return [_field(field.name, field.type, FILE_DESCRIPTIONS[field.name]) for field in FILE_SCHEMA]


def _field(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={_DOC: meaning.encode()})


_OF_DAYS = _field(HOUR, pa.int32(), "The window's hour where its day is one file; null where the window is one.")


def properties(dataset: str) -> dict[str, str]:
    """What is said of a data set's table when it is made."""
    bounded = [name for name in _BOUNDED if name in columns(dataset).names]
    return {
        "format-version": "2",
        "write.metadata.metrics.default": "none",
        **{f"write.metadata.metrics.column.{name}": "full" for name in bounded},
        # Many windows are a commit each: without this, so many small manifests would be read by every query.
        "commit.manifest-merge.enabled": "true",
        "commit.manifest.min-count-to-merge": "32",
        # A commit that lost against another one is found out anew, never repeated: it may have nothing left to do.
        "commit.retry.num-retries": "0",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "20",
    }
