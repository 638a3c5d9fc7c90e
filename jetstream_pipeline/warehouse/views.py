"""The views that people query: what each is called, and its SQL over the files. Keeping them in a file is `database`'s.

A view reads its files by pattern, so that a window is there as soon as its file is. A data set without any file is an
empty view with the same columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jetstream_pipeline.sql import glob_safe, literal
from jetstream_pipeline.storage.event_layout import FILE_DESCRIPTIONS, FILE_SCHEMA
from jetstream_pipeline.storage.files import exists, folders, holds
from jetstream_pipeline.storage.hive import ANY_HOUR
from jetstream_pipeline.storage.lake import (
    ANY_DAY,
    ANY_MARK,
    ANY_SEGMENT,
    ARCHIVE,
    DAYS,
    EVENTS,
    INCOMPLETE,
    Lake,
)
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import shown
from jetstream_pipeline.storage.quarantine import FILES as QUARANTINE_FILES
from jetstream_pipeline.storage.quarantine import QUARANTINE_DESCRIPTIONS, QUARANTINE_SCHEMA
from jetstream_pipeline.tables.columns import readable
from jetstream_pipeline.tables.definitions import TABLES, Table
from jetstream_pipeline.warehouse.current import ACCOUNTS, CURRENT, current_columns, current_query
from jetstream_pipeline.warehouse.rows import Days, rows, summaries, summaries_with_days

_NONE: Mapping[str, Days] = {}
_BY_SEGMENT = "hive_partitioning = true, hive_types = {'segment': VARCHAR}"
_FLAT = "hive_partitioning = false"
_DUCKDB_TYPES = {
    "int64": "BIGINT",
    "string": "VARCHAR",
    "binary": "BLOB",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}
_PLACE = {
    "stream": "The stream that the row was taken for.",
    "date": "The window's date, UTC. A condition on `date` and `hour` reads only those windows' files.",
    "hour": "The window's hour, 0 to 23, UTC.",
}


@dataclass(frozen=True)
class View:
    """A view: its name, what it shows, its SELECT, and what its columns mean."""

    name: str
    description: str
    query: str
    columns: dict[str, str]


@dataclass(frozen=True)
class _Held:
    """What there is, asked once."""

    data: DataDirectory
    datasets: dict[str, list[str]]
    """Of each stream, that windows have files of their own of."""
    days: dict[str, list[str]]
    """The same, that days have files of; where any of those count."""

    @property
    def lake(self) -> Lake:
        return self.data.lake


def views(data: DataDirectory) -> Iterator[View]:
    """Every view over what `data` holds now."""
    lake = data.lake
    datasets = {stream: lake.datasets(stream) for stream in lake.streams()}
    held = _Held(data, datasets, {stream: lake.day_datasets(stream) for stream in datasets if lake.marks(stream)})
    described = {
        **FILE_DESCRIPTIONS,
        "time": "When the host witnessed the event.",
        "uri": "The record's address, at://did/collection/rkey; null unless a commit.",
        "json": "`record` or `payload` as JSON that DuckDB can query: lone surrogates are U+FFFD.",
        **_PLACE,
    }
    for name, folder, text in (
        ("events", EVENTS, "Every event of every whole window."),
        ("incomplete_events", INCOMPLETE, "What hosts gave of the windows that are not whole."),
    ):
        files, days = _files(held, folder, EVENTS), _day_files(held, folder)
        yield View(name, text, _over_streams(_EVENT_COLUMNS, _EVENT_TYPES, files, days), described)
    yield View(
        "archived_events",
        "Every event of the archive's segments that were read each as it is; those of windows are in `events`.",
        _archived(held),
        {name: text for name, text in described.items() if name not in _PLACE}
        | {"stream": _PLACE["stream"], "segment": "The archive's segment, named as on its host."},
    )
    for table in TABLES:
        files, days = _files(held, table.name, table.name), _day_files(held, table.name)
        query = _over_streams(_table_columns(table), _stored_types(table), files, days)
        descriptions = {column.name: column.description for column in table.columns}
        yield View(table.name, table.description, query, descriptions | _PLACE)
        if table.name in CURRENT:
            yield _current(held, table)
    yield View(
        "windows",
        "One row per window: its state, and what shows it.",
        _windows(held),
        {name: description for name, (_, _, description) in _WINDOW_COLUMNS.items()},
    )
    yield View(
        "streams",
        "One row per stream: the filter that its windows have. An empty list lets everything through.",
        _streams(held),
        {name: description for name, (_, description) in _STREAM_COLUMNS.items()},
    )
    yield View(
        "quarantine",
        "Messages that could not be read, byte for byte.",
        _over_streams(
            ", ".join(QUARANTINE_SCHEMA.names),
            _types(QUARANTINE_SCHEMA),
            _quarantine_files(data),
            options=", union_by_name = true",
        ),
        QUARANTINE_DESCRIPTIONS | _PLACE,
    )


def _types(schema: object) -> dict[str, str]:
    return {field.name: _DUCKDB_TYPES[str(field.type)] for field in schema}  # type: ignore[attr-defined]


_TIME = "make_timestamptz(time_us) AS time"
_URI = "'at://' || did || '/' || collection || '/' || rkey AS uri"
_JSON = f"{readable('coalesce(record, payload)')} AS json"
_WITH = {"time_us": f"time_us, {_TIME}", "rkey": f"rkey, {_URI}", "payload": f"payload, {_JSON}"}
_EVENT_COLUMNS = ", ".join(_WITH.get(name, name) for name in FILE_SCHEMA.names)
_EVENT_TYPES = _types(FILE_SCHEMA)


def _files(held: _Held, folder: str, name: str) -> dict[str, str]:
    """The pattern of a data set's files, for each stream that has any."""
    return {
        stream: f"{glob_safe(shown(held.lake.root / stream / folder))}/{ANY_HOUR}/{name}.parquet"
        for stream, datasets in held.datasets.items()
        if folder in datasets
    }


def _archived(held: _Held) -> str:
    streams = [stream for stream in held.datasets if held.lake.has_segments(stream)]
    if not streams:
        nothing = _no_rows(_EVENT_TYPES | {"stream": "VARCHAR", "segment": "VARCHAR"})
        return f"SELECT {_EVENT_COLUMNS}, stream, segment FROM ({nothing})"  # noqa: S608 - our names
    return "\nUNION ALL\n".join(
        f"SELECT {_EVENT_COLUMNS}, {literal(stream)} AS stream, segment "  # noqa: S608 - our names and quoted paths
        f"FROM read_parquet({literal(_segment_files(held, stream))}, {_BY_SEGMENT})"
        for stream in streams
    )


def _segment_files(held: _Held, stream: str) -> str:
    folder = glob_safe(shown(held.lake.root / stream / ARCHIVE))
    return f"{folder}/{ANY_SEGMENT}/{EVENTS}.parquet"


def _quarantine_files(data: DataDirectory) -> dict[str, str]:
    streams = (folder for folder in folders(data.quarantine) if holds(folder, QUARANTINE_FILES))
    return {folder.name: f"{glob_safe(shown(folder))}/{QUARANTINE_FILES}" for folder in streams}


def _day_files(held: _Held, folder: str) -> dict[str, Days]:
    """The pattern of a data set's files of days, for each stream that has any."""
    return {
        stream: Days(
            f"{glob_safe(shown(held.lake.root / stream / folder))}/{ANY_DAY}/{folder}.parquet",
            f"{glob_safe(shown(held.lake.root / stream / DAYS))}/{ANY_MARK}",
        )
        for stream, datasets in held.days.items()
        if folder in datasets
    }


def _over_streams(
    columns: str,
    types: dict[str, str],
    files: dict[str, str],
    days: Mapping[str, Days] = _NONE,
    options: str = "",
) -> str:
    """`columns` of every stream's files, with the stream and the window; `types` are those of the files' columns."""
    streams = sorted({*files, *days})
    if not streams:
        nothing = _no_rows(types | {"stream": "VARCHAR", "date": "DATE", "hour": "INTEGER"})
        return f"SELECT {columns}, stream, date, hour FROM ({nothing})"  # noqa: S608 - our names
    return "\nUNION ALL\n".join(
        rows(f"{columns}, {literal(stream)} AS stream, date, hour", files.get(stream), days.get(stream), options)
        for stream in streams
    )


def _table_columns(table: Table) -> str:
    """A table's columns as a SELECT's list over its file's."""
    return ", ".join(f"{column.shown} AS {column.name}" if column.shown else column.name for column in table.columns)


def _stored_types(table: Table) -> dict[str, str]:
    return {column.name: column.type for column in table.stored}


def _current(held: _Held, table: Table) -> View:
    accounts, no_accounts = _scans(held, ACCOUNTS), _nothing(ACCOUNTS)
    scans = _scans(held, table) or {"": _nothing(table)}
    query = "\nUNION ALL\n".join(
        f"SELECT *, {literal(stream)} AS stream FROM "  # noqa: S608 - our names and quoted paths
        f"({current_query(table, scan, accounts.get(stream, no_accounts))})"
        for stream, scan in scans.items()
    )
    description = f"The {table.name} that exist now, one row each, as far as the stream's windows know."
    return View(f"{table.name}_current", description, query, current_columns(table) | {"stream": _PLACE["stream"]})


def _nothing(table: Table) -> str:
    return f"({_no_rows(_stored_types(table))})"


def _scans(held: _Held, table: Table) -> dict[str, str]:
    """A table's rows as they may stand in a FROM, for each stream that has any."""
    files, days = _files(held, table.name, table.name), _day_files(held, table.name)
    flat = {stream: f"read_parquet({literal(pattern)}, {_FLAT})" for stream, pattern in files.items()}
    columns = ", ".join(_stored_types(table))
    return flat | {stream: f"({rows(columns, files.get(stream), some)})" for stream, some in days.items()}


def _no_rows(types: dict[str, str]) -> str:
    """A SELECT with these columns and nothing in them."""
    return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in types.items())} WHERE false"


_WINDOW_COLUMNS: dict[str, tuple[str, str, str]] = {
    "stream": ("VARCHAR", "$.stream", "The stream."),
    "window_start": ("TIMESTAMPTZ", "$.start", "The window's start, inclusive."),
    "window_end": ("TIMESTAMPTZ", "$.end", "The window's end, exclusive."),
    "state": ("VARCHAR", "$.state", "complete, verified, truncated or unproven."),
    "reason": ("VARCHAR", "$.reason", "What shows it."),
    "events": ("BIGINT", "$.events", "Events in the window's file."),
    "first_time": ("TIMESTAMPTZ", "$.first_time", "The first event's witnessed time."),
    "last_time": ("TIMESTAMPTZ", "$.last_time", "The last event's witnessed time."),
    "counts_by_kind": ("MAP(VARCHAR, BIGINT)", "$.counts_by_kind", "Events of each kind."),
    "counts_by_collection": ("MAP(VARCHAR, BIGINT)", "$.counts_by_collection", "Commits of each collection."),
    "content": ("VARCHAR", "$.content", "The identity of the rows in their order: another one, other rows."),
    "quarantined": ("BIGINT", "$.quarantined", "Messages that could not be read; see `quarantine`."),
    "host": ("VARCHAR", "$.host", "The hosts that the events were read from."),
    "wire": ("VARCHAR", "$.wire", "How they were spoken to: v1, v2, archive."),
    "start_shown_by": ("VARCHAR", "$.proof.start_shown_by", "What showed that the host still had the start."),
    "end_shown_by": ("VARCHAR", "$.proof.end_shown_by", "What showed that the stream passed the end."),
    "position": ("TIMESTAMPTZ", "$.proof.position", "How far the stream was read."),
    "clamps": (
        "STRUCT(host VARCHAR, asked TIMESTAMPTZ, begins TIMESTAMPTZ)[]",
        "$.proof.clamps",
        "Where a host's history begins later than what it was asked for, and no other host had more.",
    ),
    "archived": (
        "STRUCT(host VARCHAR, first_seq BIGINT, last_seq BIGINT, first_time TIMESTAMPTZ, last_time TIMESTAMPTZ, "
        "segments BIGINT)[]",
        "$.proof.archived",
        "What came from hosts' archives; everything else came from their streams.",
    ),
    "connections": ("VARCHAR[]", "$.proof.connections", "Why each connection ended, in order; the last 200."),
    "repeats": ("BIGINT", "$.proof.repeats", "Events delivered again, recognised by their identity and dropped."),
    "resumptions": ("BIGINT", "$.proof.resumptions", "How often the replay went on where a run had died."),
    "left_to_neighbours": (
        "BIGINT",
        "$.proof.left_to_neighbours",
        "Events at the edges that the windows beside it hold: other hosts' clocks put them there.",
    ),
    "taken_from_beyond": (
        "BIGINT",
        "$.proof.taken_from_beyond",
        "Events beyond the edges, by its host's clock, that the window beside it does not hold.",
    ),
    "repaired": ("BIGINT", "$.repaired", "Events merged in later, from other hosts or from the quarantine."),
    "verifications": (
        "STRUCT(host VARCHAR, compared_at TIMESTAMPTZ, compared BIGINT, repaired BIGINT, lacking_there BIGINT, "
        "agreed BOOLEAN)[]",
        "$.verifications",
        "What comparisons with other hosts brought.",
    ),
    "seconds": ("DOUBLE", "$.seconds", "How long the replay took, over all of its runs."),
    "finished_at": ("TIMESTAMPTZ", "$.finished_at", "When it ended."),
    "fingerprint": ("VARCHAR", "$.fingerprint", "Identity of the stream's filter; see `streams`."),
    "version": ("VARCHAR", "$.version", "The program's version."),
    "file_size": ("BIGINT", "", "Bytes of the window's file; in a day's file, of the one that it had."),
    "file": ("VARCHAR", "", "The window's file, or its day's."),
}


def windows_columns() -> list[str]:
    """The columns of the view `windows`."""
    return list(_WINDOW_COLUMNS)


def _windows(held: _Held) -> str:
    """A window that is both whole and incomplete shows as whole: it has just become so."""
    whole, incomplete = (_files(held, folder, EVENTS) for folder in (EVENTS, INCOMPLETE))
    days = _day_files(held, EVENTS)
    plain = [pattern for stream, pattern in whole.items() if stream not in days]
    listed = [summaries(patterns) for patterns in (plain,) if patterns]
    listed += [summaries_with_days(whole.get(stream), some) for stream, some in days.items()]
    ranked = [(0, part) for part in listed] + ([(1, summaries([*incomplete.values()]))] if incomplete else [])
    if not ranked:
        return _no_rows({name: kind for name, (kind, _, _) in _WINDOW_COLUMNS.items()})
    said = ", ".join(_said(kind, path, name) for name, (kind, path, _) in _WINDOW_COLUMNS.items() if path)
    parts = " UNION ALL ".join(f"SELECT {rank} AS rank, * FROM ({part})" for rank, part in ranked)  # noqa: S608
    return (
        f"SELECT {said}, file_size, file FROM ({parts})\n"  # noqa: S608 - our names and quoted paths
        "QUALIFY row_number() OVER (PARTITION BY stream, window_start ORDER BY rank) = 1\n"
        "ORDER BY stream, window_start"
    )


_STREAM_COLUMNS = {
    "stream": ("VARCHAR", "The stream."),
    "fingerprint": ("VARCHAR", "Identity of the filter; a window with another one is of an older filter."),
    "collections": ("VARCHAR[]", "Collections, or prefixes ending in `.*`."),
    "dids": ("VARCHAR[]", "Repositories."),
    "kinds": ("VARCHAR[]", "Kinds of events."),
}


def _streams(held: _Held) -> str:
    paths = {stream: held.lake.stream_path(stream) for stream in held.datasets}
    said = {stream: shown(path) for stream, path in paths.items() if exists(path)}
    if not said:
        return _no_rows({name: kind for name, (kind, _) in _STREAM_COLUMNS.items()})
    _, *columns = _STREAM_COLUMNS.items()
    values = ", ".join(f"(content::JSON ->> '$.{name}')::{kind} AS {name}" for name, (kind, _) in columns)
    return "\nUNION ALL\n".join(
        f"SELECT {literal(stream)} AS stream, {values} FROM read_text({literal(glob_safe(path))})"  # noqa: S608
        for stream, path in said.items()
    )


def _said(kind: str, path: str, name: str) -> str:
    if kind.startswith(("MAP", "STRUCT")) or kind.endswith("[]"):
        return f"json_extract(summary, {literal(path)})::{kind} AS {name}"
    return f"json_extract_string(summary, {literal(path)})::{kind} AS {name}"
