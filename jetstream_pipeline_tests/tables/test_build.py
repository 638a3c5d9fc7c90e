"""Typed tables hold what the records say, and null where strangers wrote something else."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import SUMMARY_KEY, WindowState, read_summary
from jetstream_pipeline.tables import build, file
from jetstream_pipeline.tables.build import build_stale, build_table
from jetstream_pipeline.tables.columns import at_once
from jetstream_pipeline.tables.definitions import TABLES, Table
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.reference import reference
from jetstream_pipeline_tests.windows import HOUR, commit, delete, store

BY_NAME = {table.name: table for table in TABLES}
LIKE, FOLLOW, PROFILE = "app.bsky.feed.like", "app.bsky.graph.follow", "app.bsky.actor.profile"


def rows_of(name: str, messages: list[bytes], folder: Path) -> list[dict[str, Any]]:
    data = DataDirectory(folder)
    store(data, messages)
    summary = build_table(BY_NAME[name], "network", HOUR, data.lake)
    table = pq.ParquetFile(summary.path).read()
    assert summary.rows == table.num_rows
    assert summary.bytes == summary.path.stat().st_size
    assert table.schema.names == [column.name for column in BY_NAME[name].stored]
    return table.to_pylist()


def row_of(record: object, folder: Path, name: str = "posts", collection: str = "app.bsky.feed.post") -> dict[str, Any]:
    text = record if isinstance(record, str) else json.dumps(record)
    (row,) = rows_of(name, [commit(text, collection)], folder)
    return row


def test_a_posts_references_and_features_are_columns(tmp_path: Path) -> None:
    feature = "app.bsky.richtext.facet#"
    row = row_of(
        {
            "text": "hello 🌍\u0000",
            "createdAt": "2026-07-04T16:00:00.5+02:00",
            "langs": ["en", "de"],
            "tags": ["aside"],
            "labels": {"values": [{"val": "nudity"}]},
            "reply": {"parent": {"uri": "at://p", "cid": "pc"}, "root": {"uri": "at://r", "cid": "rc"}},
            "facets": [
                {
                    "features": [
                        {"$type": feature + "tag", "tag": "data"},
                        {"$type": feature + "link", "uri": "https://a"},
                    ]
                },
                {"features": [{"$type": feature + "mention", "did": "did:plc:b"}]},
            ],
            "embed": {
                "$type": "app.bsky.embed.recordWithMedia",
                "record": {"record": {"uri": "at://q", "cid": "qc"}},
                "media": {"$type": "app.bsky.embed.images", "images": [{"alt": "a cat"}, {"alt": ""}]},
            },
        },
        tmp_path,
    )
    assert row["time"] == HOUR.start
    assert row["created_at"] == datetime(2026, 7, 4, 14, 0, 0, 500_000, tzinfo=UTC)
    assert (row["text"], row["langs"], row["labels"]) == ("hello 🌍\x00", ["en", "de"], ["nudity"])
    assert (row["reply_parent_uri"], row["reply_root_uri"], row["quote_uri"]) == ("at://p", "at://r", "at://q")
    assert (row["hashtags"], row["links"], row["mentions"]) == (["data", "aside"], ["https://a"], ["did:plc:b"])
    assert (row["embed_type"], row["images"]) == ("app.bsky.embed.recordWithMedia", 2)
    assert row["image_alts"] == ["a cat", ""]
    assert (row["did"], row["rkey"], row["rev"], row["operation"]) == ("did:plc:a0", "k0", "3k0", "create")


@pytest.mark.parametrize(
    ("claimed", "read"),
    [
        ("2026-07-04T14:00:00.123456789Z", datetime(2026, 7, 4, 14, 0, 0, 123456, tzinfo=UTC)),
        ("2026-07-04t14:00:00z", datetime(2026, 7, 4, 14, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+12:00", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("infinity", None),
        ("epoch", None),
        ("2026-07-04", None),
        ("2026-02-30T00:00:00Z", None),
        ("yesterday", None),
        (1_783_175_888, None),
        (None, None),
    ],
)
def test_a_claimed_time_is_read_or_null(claimed: object, read: datetime | None, tmp_path: Path) -> None:
    assert row_of({"createdAt": claimed}, tmp_path)["created_at"] == read


@pytest.mark.parametrize(
    "record",
    [
        '{"text":{"x":1},"langs":"en","reply":[],"embed":7,"facets":{"features":[]},"createdAt":["2026"]}',
        '{"text":["a"],"langs":[1,null,{"a":1}],"reply":{"parent":"x"},"facets":[[],{"features":[{"tag":1}]}],"tags":null}',
        '{"text":12345678901234567890123,"labels":{"values":{"val":"x"}},"embed":{"images":"none"}}',
        "{}",
        '{"a":' * 400 + "{}" + "}" * 400,
    ],
)
def test_a_value_of_another_type_is_null(record: str, tmp_path: Path) -> None:
    row = row_of(record, tmp_path)
    texts = ("text", "created_at", "reply_parent_uri", "quote_uri", "embed_type", "external_uri", "video_cid")
    assert not any(row[name] for name in texts)
    assert row["langs"] == row["hashtags"] == row["mentions"] == row["labels"] == row["image_alts"] == []
    assert row["images"] == 0


def test_lone_surrogates_read_as_replacement_characters_and_lose_nothing_else(tmp_path: Path) -> None:
    row = row_of('{"text":"a\\ud83d\\u0041","langs":["en"]}', tmp_path)
    assert (row["text"], row["langs"]) == ("a\ufffdA", ["en"])


def test_a_delete_names_its_record_and_nothing_more(tmp_path: Path) -> None:
    (row,) = rows_of("likes", [delete(LIKE)], tmp_path)
    assert (row["operation"], row["did"], row["rkey"], row["rev"]) == ("delete", "did:plc:a0", "k0", "3k0")
    assert row["subject_uri"] is row["created_at"] is None


def test_likes_follows_and_profiles_name_their_subjects(tmp_path: Path) -> None:
    subject = {"uri": "at://did:plc:b/app.bsky.feed.post/x", "cid": "c"}
    like = row_of({"subject": subject, "via": {"uri": "at://v", "cid": "vc"}}, tmp_path, "likes", LIKE)
    assert (like["subject_uri"], like["subject_did"], like["via_uri"]) == (subject["uri"], "did:plc:b", "at://v")
    follow = row_of({"subject": "did:plc:b"}, tmp_path, "follows", FOLLOW)
    assert follow["subject_did"] == "did:plc:b"
    avatar = {"$type": "blob", "ref": {"$link": "bafkrei"}, "mimeType": "image/png", "size": 1}
    profile = row_of({"displayName": "Ä", "avatar": avatar}, tmp_path, "profiles", PROFILE)
    assert (profile["display_name"], profile["avatar_cid"], profile["description"]) == ("Ä", "bafkrei", None)


def test_identities_and_accounts_are_read_from_their_payloads(tmp_path: Path) -> None:
    head = f'{{"did":"did:plc:a","time_us":{HOUR.start_us},"kind":'
    body = '"did":"did:plc:a","seq":30340180350,"time":"2026-07-04T13:59:59Z"'
    messages = [
        f'{head}"identity","identity":{{{body},"handle":"a.example"}}}}'.encode(),
        f'{head}"account","account":{{{body},"active":false,"status":"takendown"}}}}'.encode(),
        f'{head}"account","account":{{"active":"yes","seq":1.5}}}}'.encode(),
    ]
    (identity,) = rows_of("identities", messages, tmp_path)
    assert (identity["handle"], identity["upstream_seq"]) == ("a.example", 30340180350)
    assert identity["upstream_time"] == datetime(2026, 7, 4, 13, 59, 59, tzinfo=UTC)
    account, odd = rows_of("accounts", messages, tmp_path)
    assert (account["active"], account["status"]) == (False, "takendown")
    assert (odd["active"], odd["status"], odd["upstream_seq"]) == (None, None, None)


def test_real_events_columns_are_their_records_fields(tmp_path: Path) -> None:
    messages = [
        line
        for name in ("events/real-v1-kinds.jsonl", "events/real-v1-window.jsonl")
        for line in reference(name).read_bytes().splitlines()
    ]
    events = [json.loads(message) for message in messages]
    for name, collection, path in (
        ("posts", "app.bsky.feed.post", {"text": ("text",), "reply_root_uri": ("reply", "root", "uri")}),
        ("likes", LIKE, {"subject_uri": ("subject", "uri"), "via_uri": ("via", "uri")}),
        ("follows", FOLLOW, {"subject_did": ("subject",)}),
        ("profiles", PROFILE, {"display_name": ("displayName",), "banner_cid": ("banner", "ref", "$link")}),
    ):
        commits = [event["commit"] for event in events if event.get("commit", {}).get("collection") == collection]
        rows = rows_of(name, messages, tmp_path)
        assert [row["rev"] for row in rows] == [one["rev"] for one in commits]
        for column, keys in path.items():
            assert [row[column] for row in rows] == [_at(one.get("record"), keys) for one in commits]


def _at(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if value else None
    return value


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = ["text", "createdAt", "langs", "reply", "facets", "tags", "embed", "labels", "subject", "via", "displayName"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(_FIELDS), _JSON), min_size=1, max_size=12))
def test_whatever_records_hold_no_row_is_lost_and_strings_are_kept(tmp_path: Path, records: list[dict]) -> None:
    messages = [commit(json.dumps(record), number=number) for number, record in enumerate(records)]
    rows = rows_of("posts", messages, tmp_path)
    texts = [record.get("text") for record in records]
    expected = [text.encode("utf-8", "replace").decode() if isinstance(text, str) else None for text in texts]
    assert [row["text"] for row in rows] == expected


@settings(max_examples=25)
@given(st.lists(st.dictionaries(st.sampled_from(_FIELDS), _JSON), min_size=1, max_size=12))
def test_values_taken_all_at_once_are_those_that_each_columns_sql_takes(records: list[dict]) -> None:
    posts = BY_NAME["posts"].columns
    columns = ", ".join(f"{column.sql} AS {column.name}" for column in posts if "doc" in column.sql)
    at_once_columns, lists = at_once(columns)
    assert "doc, " not in at_once_columns
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE TABLE records (doc JSON)")
        connection.executemany("INSERT INTO records VALUES (?)", [[_text(record)] for record in records])
        each = connection.execute(f"SELECT {columns} FROM records").fetchall()
        assert connection.execute(f"SELECT {at_once_columns} FROM (SELECT *{lists} FROM records)").fetchall() == each


def _text(record: dict) -> str:
    """As JSON that DuckDB reads."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace").decode()


def test_a_window_that_is_replaced_meanwhile_is_derived_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataDirectory(tmp_path)
    store(data, [commit('{"text":"old"}')])
    write = build._write

    def write_slowly(*arguments: Any) -> None:
        write(*arguments)
        monkeypatch.setattr(build, "_write", write)
        store(data, [commit('{"text":"new"}')])

    monkeypatch.setattr(build, "_write", write_slowly)
    summary = build_table(BY_NAME["posts"], "network", HOUR, data.lake)
    assert pq.ParquetFile(summary.path).read(columns=["text"])["text"].to_pylist() == ["new"]


def test_a_window_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no whole window"):
        build_table(BY_NAME["posts"], "network", HOUR, DataDirectory(tmp_path).lake)


POSTS = BY_NAME["posts"]


def built(data: DataDirectory, table: Table = POSTS) -> tuple[int, int]:
    """What tells one file from another, after the table was asked for."""
    path = build_table(table, "network", HOUR, data.lake).path
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_a_table_is_derived_again_only_where_the_windows_rows_or_its_query_differ(data: DataDirectory) -> None:
    store(data, [commit('{"text":"a"}')])
    first = built(data)
    assert built(data) == first
    store(data, [commit('{"text":"a"}')], seconds=9.0, state=WindowState.COMPLETE)
    assert built(data) == first
    store(data, [commit('{"text":"b"}')])
    second = built(data)
    assert second != first
    assert built(data) == second
    fewer = replace(POSTS, columns=POSTS.columns[:-1])
    third = built(data, fewer)
    assert third != second
    assert built(data, fewer) == third
    assert built(data) not in (second, third)


def test_a_table_that_was_written_in_another_way_is_derived_again(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(data, [commit('{"text":"a"}')])
    first = built(data)
    recoded = replace(POSTS, columns=tuple(replace(column, encoding=None) for column in POSTS.columns))
    second = built(data, recoded)
    assert second != first
    monkeypatch.setitem(file._OPTIONS, "compression_level", 9)
    third = built(data, recoded)
    assert third != second
    assert built(data, recoded) == third


def test_an_hours_rows_are_one_row_group_unless_there_are_very_many(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{number} of many" for number in range(5000)]
    store(data, [commit(json.dumps({"text": text}), number=number) for number, text in enumerate(texts)])
    groups = []
    for limits in ({}, {"_ROW_GROUP_ROWS": 3000}, {"_ROW_GROUP_BYTES": 100_000}):
        for name, limit in limits.items():
            monkeypatch.setattr(file, name, limit)
        with monkeypatch.context() as fewer:
            fewer.setattr(build, "ROWS_AT_ONCE", 1000)
            path = build_table(POSTS, "network", HOUR, data.lake).path
        groups.append(pq.read_metadata(path).num_row_groups)
        assert pq.ParquetFile(path).read(columns=["text"])["text"].to_pylist() == texts
    assert groups[0] == 1
    assert groups[1] == 2
    assert groups[2] > 2


def test_a_column_is_encoded_as_it_says(data: DataDirectory) -> None:
    store(data, [commit('{"text":"a","langs":["en"],"createdAt":"2026-07-04T14:00:00Z"}', number=n) for n in range(9)])
    group = pq.read_metadata(build_table(POSTS, "network", HOUR, data.lake).path).row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    encodings = {chunk.path_in_schema.split(".")[0]: set(chunk.encodings) for chunk in chunks}
    for column in POSTS.stored:
        assert (column.encoding or "RLE_DICTIONARY") in encodings[column.name]
        assert ("RLE_DICTIONARY" in encodings[column.name]) == (column.encoding is None)


def test_an_events_file_that_cannot_be_read_is_told(data: DataDirectory) -> None:
    store(data, [commit(json.dumps({"text": f"{number * 7919} of many"}), number=number) for number in range(5000)])
    path = data.lake.events_path("network", HOUR)
    content = bytearray(path.read_bytes())
    content[1000 : len(content) // 2] = bytes(len(content) // 2 - 1000)
    path.write_bytes(content)
    with pytest.raises(StorageError, match="cannot derive posts from"):
        build_table(POSTS, "network", HOUR, data.lake)
    assert not data.lake.table_path("network", "posts", HOUR).exists()


def test_a_table_that_is_damaged_or_says_nothing_of_its_origin_is_derived_again(data: DataDirectory) -> None:
    store(data, [commit('{"text":"a"}')])
    build_table(POSTS, "network", HOUR, data.lake)
    path = data.lake.table_path("network", "posts", HOUR)
    rows = pq.ParquetFile(path).read()
    path.write_bytes(path.read_bytes()[:-20])
    assert build_table(POSTS, "network", HOUR, data.lake).rows == 1
    pq.write_table(rows.slice(1).replace_schema_metadata(None), path)
    assert build_table(POSTS, "network", HOUR, data.lake).rows == 1
    assert pq.ParquetFile(path).read().equals(rows)


def test_a_table_of_a_window_whose_content_is_not_known_is_derived_each_time(data: DataDirectory) -> None:
    store(data, [commit('{"text":"a"}')])
    path = data.lake.events_path("network", HOUR)
    old = read_summary(path).model_dump_json(exclude={"content"})
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({SUMMARY_KEY: old.encode()}), path)
    assert read_summary(path).content == ""
    assert built(data) != built(data)


def test_stale_tables_are_those_of_other_rows_or_lacking_ones_that_the_stream_has(data: DataDirectory) -> None:
    following = Window.hour(HOUR.end)
    for window in (HOUR, following):
        store(data, [commit('{"text":"a"}')], window)
    assert build_stale("network", HOUR, data.lake) == []
    build_table(POSTS, "network", HOUR, data.lake)
    assert build_stale("network", HOUR, data.lake) == []
    build_table(BY_NAME["likes"], "network", following, data.lake)
    assert [one.path.stem for one in build_stale("network", HOUR, data.lake)] == ["likes"]
    store(data, [commit('{"text":"b"}')])
    assert [one.path.stem for one in build_stale("network", HOUR, data.lake)] == ["posts", "likes"]
    assert build_stale("network", HOUR, data.lake) == []
    assert [one.path.stem for one in build_stale("network", following, data.lake)] == ["posts"]
