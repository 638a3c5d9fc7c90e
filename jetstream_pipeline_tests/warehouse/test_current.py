"""What exists now: no order of arrival, no repeat and no late event makes a difference to it."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.simulator.identifiers import tid
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import querying
from jetstream_pipeline.warehouse.views import views
from jetstream_pipeline_tests.windows import HOUR, Window, commit, store

_TABLES = {table.name: table for table in TABLES}
_TYPES = {
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "VARCHAR[]": pa.list_(pa.string()),
}
_ME = "did:plc:me"


def at(minute: float) -> datetime:
    return HOUR.start + timedelta(minutes=minute)


def revision(minute: float, clock: int = 0) -> str:
    """That of a commit which the account's server made at this time."""
    return tid(int(at(minute).timestamp() * 1_000_000), clock)


@dataclass(frozen=True)
class Write:
    """A row of a table of records: what was done at `minute`, and `seen` when."""

    operation: str
    minute: float
    seen: float | None = None
    rkey: str = "k"
    did: str = _ME
    rev: str | None = None
    content: str | None = None
    seq: int = 0

    @property
    def revision(self) -> str:
        return self.rev if self.rev is not None else revision(self.minute)

    @property
    def time(self) -> datetime:
        return at(self.minute if self.seen is None else self.seen)

    @property
    def row(self) -> dict[str, object]:
        return {
            "time": self.time,
            "seq": self.seq,
            "did": self.did,
            "operation": self.operation,
            "uri": f"at://{self.did}/x/{self.rkey}",
            "rkey": self.rkey,
            "rev": self.revision,
            "subject_did": self.content,
        }


@dataclass(frozen=True)
class Change:
    """A row of `accounts`: null for an upstream time that nobody could read."""

    status: str | None
    minute: float | None
    seen: float | None = None
    active: bool | None = None
    did: str = _ME
    number: int | None = None

    @property
    def time(self) -> datetime:
        seen = self.minute if self.seen is None else self.seen
        assert seen is not None
        return at(seen)

    @property
    def upstream_time(self) -> datetime | None:
        return None if self.minute is None else at(self.minute)

    @property
    def row(self) -> dict[str, object]:
        return {
            "time": self.time,
            "did": self.did,
            "active": self.active,
            "status": self.status,
            "upstream_seq": self.number,
            "upstream_time": self.upstream_time,
        }


def active(minute: float | None, seen: float | None = None, **other: object) -> Change:
    return Change(None, minute, seen, True, **other)  # type: ignore[arg-type]


def inactive(status: str | None, minute: float | None, seen: float | None = None, **other: object) -> Change:
    return Change(status, minute, seen, False, **other)  # type: ignore[arg-type]


def put(
    data: DataDirectory, table: str, rows: Sequence[Write | Change], window: Window = HOUR, stream: str = "network"
) -> None:
    fields = [pa.field(column.name, _TYPES[column.type]) for column in _TABLES[table].stored]
    path = data.lake.table_path(stream, table, window)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row.row for row in rows], pa.schema(fields)), path)


def ask(data: DataDirectory, query: str) -> list[tuple]:
    """What the views answer, without the file that holds them: most of a test's time would go there."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        for view in views(data):
            if view.name.endswith("_current"):
                connection.execute(f"CREATE VIEW {view.name} AS {view.query}")
        return connection.execute(query).fetchall()


def existing(data: DataDirectory, *events: Write | Change) -> set[tuple[str, str | None]]:
    """Key and account status of the follows that exist after these events."""
    put(data, "follows", [event for event in events if isinstance(event, Write)])
    put(data, "accounts", [event for event in events if isinstance(event, Change)])
    rows = ask(data, "SELECT did, rkey, account_status FROM follows_current")
    assert len(set(rows)) == len(rows)
    return {row[1:] for row in rows}


HERE, GONE = {("k", None)}, set[tuple[str, str | None]]()


@pytest.mark.parametrize(
    ("events", "exist"),
    [
        ([Write("create", 1)], HERE),
        ([Write("create", 1), Write("create", 1, seen=9)], HERE),
        ([Write("create", 1), Write("create", 2)], HERE),
        ([Write("update", 1)], HERE),
        ([Write("create", 1), Write("delete", 2)], GONE),
        ([Write("create", 1, seen=9), Write("delete", 2)], GONE),
        ([Write("create", 1), Write("delete", 2, seen=9), Write("update", 3)], HERE),
        ([Write("create", 1), Write("delete", 2), Write("create", 3)], HERE),
        ([Write("create", 1), inactive("deactivated", 2)], {("k", "deactivated")}),
        ([Write("create", 1), inactive(None, 2)], {("k", "inactive")}),
        ([Write("create", 1), inactive("", 2)], {("k", "inactive")}),
        ([Write("create", 1), Change("throttled", 2, active=True)], HERE),
        ([Write("create", 1), inactive("suspended", 2), Change("takendown", 3, active=None)], {("k", "suspended")}),
        ([Write("create", 1), Change("deleted", 2, active=None)], HERE),
        ([Write("create", 1), inactive("takendown", 2), active(3)], HERE),
        ([Write("create", 1), active(3), inactive("takendown", 2, seen=9)], HERE),
        ([Write("create", 1), inactive("takendown", 2), active(3), inactive("takendown", 2, seen=9)], HERE),
        ([Write("create", 1), inactive("deleted", 2)], GONE),
        ([Write("create", 5), inactive("deleted", 2)], GONE),
        ([Write("create", 1), inactive("deleted", 2), active(3)], GONE),
        ([Write("create", 1), inactive("deleted", 2), active(3), Write("create", 1, seen=9)], GONE),
        ([Write("create", 1, seen=9), inactive("deleted", 2), active(3)], GONE),
        ([Write("create", 1, seen=9, rev="no tid"), inactive("deleted", 2), active(3)], HERE),
        ([Write("create", 8, seen=1), inactive("deleted", 2), active(3)], GONE),
        ([Write("create", 4), inactive("deleted", 2), active(3)], HERE),
        ([Write("create", 4), inactive("deleted", 2), inactive("suspended", 3)], {("k", "suspended")}),
        ([Write("create", 4), active(3), inactive("deleted", 2, seen=9)], HERE),
        ([Write("create", 1), active(3), inactive("deleted", 2, seen=9)], GONE),
        ([Write("create", 3), inactive("deleted", 2), active(2.5), inactive("deleted", 4), active(5)], GONE),
        ([Write("create", 1), active(2, seen=3, number=7), inactive("suspended", 2, number=8)], {("k", "suspended")}),
        ([Write("create", 1), inactive("suspended", 99, seen=2), active(3), inactive("suspended", 99, seen=9)], HERE),
        ([Write("create", 1), inactive("deleted", None, seen=2, number=1), active(3, number=2),
          inactive("deleted", None, seen=9, number=1), Write("create", 4)], HERE),
        ([Write("create", 1), inactive("deleted", None, seen=2), active(None, seen=3), Write("create", 4)], HERE),
        ([Write("create", 1), inactive("deleted", 2, did="did:plc:other")], HERE),
        ([Write("create", 3, seen=6), inactive("deleted", 2, seen=5), active(2.5, seen=5.5)], HERE),
        ([Write("create", 2, seen=9), inactive("deleted", 2), active(3)], GONE),
        ([Write("create", 2.5, seen=2), inactive("deleted", 2), active(3)], GONE),
        ([Write("create", 3.5), inactive("deleted", None, seen=2), active(None, seen=3),
          inactive("deleted", None, seen=4)], GONE),
        ([Write("create", 3.5), inactive("deleted", None, seen=2, number=1), active(None, seen=3, number=2),
          inactive("deleted", None, seen=4, number=3)], GONE),
    ],
)  # fmt: skip
def test_what_exists_after(
    events: list[Write | Change], exist: set[tuple[str, str | None]], data: DataDirectory
) -> None:
    assert existing(data, *events) == exist
    assert existing(DataDirectory(data.root / "again"), *reversed(events)) == exist


def test_the_last_writes_columns_show_with_the_time_at_which_it_was_first_witnessed(data: DataDirectory) -> None:
    put(data, "follows", [Write("create", 5, seen=8, content="new"), Write("create", 1, content="old")])
    put(data, "follows", [Write("create", 5, seen=7, content="new"), Write("update", 2, seen=9)], Window.hour(HOUR.end))
    query = "SELECT epoch_us(time), did, rkey, rev, subject_did, stream FROM follows_current"
    first = int(at(7).timestamp() * 1_000_000)
    assert ask(data, query) == [(first, _ME, "k", revision(5), "new", "network")]


_NAMES = ("posts", "likes", "follows", "profiles")


def test_posts_likes_follows_and_profiles_show_their_tables_columns(data: DataDirectory) -> None:
    kinds = ("app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.graph.follow", "app.bsky.actor.profile")
    store(data, [commit('{"createdAt":"2026-07-04T14:00:00Z"}', kind, number) for number, kind in enumerate(kinds)])
    for name in _NAMES:
        build_table(_TABLES[name], "network", HOUR, data.lake)
    with querying(data) as connection:
        for name in _NAMES:
            table, current = (connection.sql(f"SELECT * FROM {view}") for view in (name, f"{name}_current"))
            columns = [pair for pair in zip(table.columns, table.types, strict=True) if pair[0] != "operation"][:-3]
            assert list(zip(current.columns, current.types, strict=True))[:-2] == columns
            assert current.columns[-2:] == ["account_status", "stream"]
            names = ", ".join(column for column, _ in columns)
            assert current.select(names).fetchall() == table.select(names).fetchall()


def test_streams_know_nothing_of_each_other(data: DataDirectory) -> None:
    put(data, "likes", [Write("create", 1)])
    put(data, "likes", [Write("create", 1)], stream="mine")
    put(data, "likes", [Write("delete", 2)], Window.hour(HOUR.end), stream="mine")
    put(data, "likes", [Write("create", 1)], stream="other")
    put(data, "accounts", [inactive("deactivated", 2)], stream="other")
    put(data, "accounts", [inactive("deleted", 2)], stream="only_accounts")
    query = "SELECT stream, account_status FROM likes_current ORDER BY stream"
    assert ask(data, query) == [("network", None), ("other", "deactivated")]
    assert ask(data, "SELECT count(*) FROM likes_current WHERE stream = 'other'") == [(1,)]


@pytest.mark.parametrize(
    "rev", ["", "3k", "zzzzzzzzzzzzz", "3mptbypluud2\U0001f30d", "3mptbyp\0uud2a", "1" * 13, "j" * 14]
)
def test_a_revision_that_is_no_tid_counts_by_witnessed_time_alone(rev: str, data: DataDirectory) -> None:
    writes = [Write("create", 1, rkey="before", rev=rev), Write("create", 4, rkey="after", rev=rev)]
    assert existing(data, *writes, inactive("deleted", 2), active(3)) == {("after", None)}


def test_a_condition_on_the_account_reaches_the_files(data: DataDirectory) -> None:
    others = ("did:plc:a", "did:plc:z")  # or the files' own bounds make the condition needless
    existing(
        data, *[Write("create", 1, did=did) for did in others], *[inactive("suspended", 2, did=did) for did in others]
    )
    ((_, plan),) = ask(data, f"EXPLAIN (FORMAT json) SELECT * FROM follows_current WHERE did = '{_ME}'")
    scans = [node for node in nodes(json.loads(plan)) if "PARQUET" in node["name"]]
    assert len(scans) == 2
    assert all(_ME in str(scan["extra_info"].get("Filters")) for scan in scans)


def nodes(plan: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in plan:
        yield node
        yield from nodes(node["children"])


def fold(events: Sequence[Write | Change]) -> dict[tuple[str, str], tuple[Write, str | None]]:
    """What exists of one stream, and its account's status, told one event after the other."""
    last: dict[tuple[str, str], Write] = {}
    accounts: dict[str, list[Change]] = {}
    known: set[object] = set()
    for event in sorted(events, key=lambda event: (event.time, event.seq if isinstance(event, Write) else 0)):
        if isinstance(event, Write):
            key = event.did, event.rkey
            if key not in last or event.revision > last[key].revision:
                last[key] = event
        elif event.active is not None and (change := identity(event)) not in known:
            known.add(change)
            accounts.setdefault(event.did, []).append(event)
    return {
        key: (write, status_of(changes))
        for key, write in last.items()
        if write.operation != "delete" and outlives(write, changes := sorted(accounts.get(key[0], ()), key=happened))
    }


def identity(change: Change) -> object:
    when = (change.minute, change.number if change.minute is None else None)
    return change.did, meaning(change), when, change.time if when == (None, None) else None


def meaning(change: Change) -> str:
    return "" if change.active else change.status or "inactive"


def happened(change: Change) -> tuple[object, ...]:
    return moment(change), change.number or 0, change.time, meaning(change)


def moment(change: Change) -> datetime:
    return min(change.upstream_time or change.time, change.time)


def status_of(changes: Sequence[Change]) -> str | None:
    return (meaning(changes[-1]) or None) if changes else None


def outlives(write: Write, changes: Sequence[Change]) -> bool:
    deletions = [place for place, change in enumerate(changes) if meaning(change) == "deleted"]
    if not deletions:
        return True
    deletion = deletions[-1]
    seen = min(change.time for change in changes[deletion:])
    written = write.minute if write.rev is None else math.inf
    return deletion < len(changes) - 1 and write.time > seen and at(min(written, 9_999)) > moment(changes[deletion])


_MINUTES = st.integers(1, 12)
_DIDS = st.sampled_from([_ME, "did:plc:other"])
_WRITES = st.builds(
    Write,
    operation=st.sampled_from(["create", "update", "delete"]),
    minute=_MINUTES,
    rkey=st.sampled_from(["k", "l"]),
    did=_DIDS,
    rev=st.sampled_from([None] * 5 + ["", "3k1", "zzz", "no\0tid"]),
)
_CHANGES = st.builds(
    Change,
    status=st.sampled_from([None, "deactivated", "deleted", "deleted", "takendown"]),
    minute=st.sampled_from([*range(1, 13), None, 999]),
    seen=_MINUTES,
    active=st.sampled_from([True, True, False, False, False, None]),
    did=_DIDS,
    number=st.sampled_from([None, 1, 2, 3]),
)


@st.composite
def arrivals(draw: st.DrawFn) -> dict[tuple[str, int], list[Write | Change]]:
    """Rows by stream and window: each event comes once or more often, at any time, in any window."""
    rows: dict[tuple[str, int], list[Write | Change]] = {}
    for number, event in enumerate(draw(st.lists(_WRITES | _CHANGES, max_size=25))):
        for repeat, seen in enumerate(draw(st.lists(_MINUTES, min_size=1, max_size=3))):
            told: Write | Change = replace(event, seen=max(seen, event.seen or 0))
            if isinstance(told, Write):
                told = replace(told, seq=10 * number + repeat, content=f"{number}.{repeat}")
            place = draw(st.sampled_from(["network", "mine"])), draw(st.integers(0, 2))
            rows.setdefault(place, []).append(told)
    return rows


@settings(max_examples=60)
@given(arrivals())
def test_any_history_in_any_order_comes_to_what_one_event_after_the_other_comes_to(
    rows: dict[tuple[str, int], list[Write | Change]],
) -> None:
    streams: dict[str, list[Write | Change]] = {}
    with TemporaryDirectory() as folder:
        data = DataDirectory(Path(folder))
        data.lake.root.mkdir(parents=True)
        for (stream, hour), events in rows.items():
            streams.setdefault(stream, []).extend(events)
            for name, kind in (("follows", Write), ("accounts", Change)):
                if found := [event for event in events if isinstance(event, kind)]:
                    put(data, name, found, Window.hour(HOUR.start + timedelta(hours=hour)), stream)
        shown = ask(data, "SELECT stream, did, rkey, subject_did, account_status FROM follows_current")
    assert sorted(shown, key=str) == sorted(
        (
            (stream, *key, write.content, status)
            for stream, events in streams.items()
            for key, (write, status) in fold(events).items()
        ),
        key=str,
    )
