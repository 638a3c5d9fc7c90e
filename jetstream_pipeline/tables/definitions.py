"""What each typed table holds: its columns, and how DuckDB takes them from an event. Writing tables is `build`'s.

Records are strangers' data: a value of another type than the lexicon's is null here, never an error, and the record
itself stays reachable in `events` by (uri, rev). The lexicons are in https://github.com/bluesky-social/atproto.
"""

from __future__ import annotations

from dataclasses import dataclass

from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, IDENTITY
from jetstream_pipeline.sql import literal

_READABLE = r"""coalesce(
    TRY({text}::JSON),
    TRY(regexp_replace({text}, '\\u[dD][89a-fA-F][0-9a-fA-F]{{2}}', '\\ufffd', 'g')::JSON)
)"""
"""The text as JSON. DuckDB refuses lone surrogates, which JavaScript writes: they read as U+FFFD."""


@dataclass(frozen=True)
class Column:
    """A column: its name, its DuckDB type, what it means, and its SQL over an event and `doc`, the event's JSON."""

    name: str
    type: str
    description: str
    sql: str


@dataclass(frozen=True)
class Table:
    """A typed table of a window: which events it takes, and the columns that it makes of each, in stream order."""

    name: str
    description: str
    body: str
    """The events' column that holds the JSON: `record` or `payload`."""
    condition: str
    columns: tuple[Column, ...]

    @property
    def query(self) -> str:
        """The table's rows as a SELECT; its one parameter is the events file's path."""
        columns = ",\n    ".join(f"({column.sql})::{column.type} AS {column.name}" for column in self.columns)
        doc = _READABLE.format(text=self.body)
        return (
            f"SELECT\n    {columns}\n"  # noqa: S608 - constants of this module
            f"FROM (SELECT *, {doc} AS doc FROM read_parquet($1) WHERE {self.condition})"
        )


def _extract(path: str) -> str:
    return f"json_extract(doc, {literal(path)})"


def _typed(path: str, types: str, value: str) -> str:
    return f"CASE WHEN json_type(doc, {literal(path)}) IN ({types}) THEN {value} END"


def _string(path: str) -> str:
    return _typed(path, "'VARCHAR'", f"json_extract_string(doc, {literal(path)})")


def _text(name: str, path: str, description: str) -> Column:
    return Column(name, "VARCHAR", description, _string(path))


def _whole(name: str, path: str, description: str) -> Column:
    value = f"TRY_CAST({_extract(path)} AS BIGINT)"
    return Column(name, "BIGINT", description, _typed(path, "'BIGINT', 'UBIGINT'", value))


def _flag(name: str, path: str, description: str) -> Column:
    return Column(name, "BOOLEAN", description, _typed(path, "'BOOLEAN'", f"{_extract(path)} = 'true'"))


def _moment(name: str, path: str, description: str) -> Column:
    """A claimed time. Only full dates and times are read, of the years 1 to 9999, which every tool can show."""
    text = f"upper({_string(path)})"
    moment = f"TRY_CAST({text} AS TIMESTAMPTZ)"
    years = "BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
    shape = r"'\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*'"
    sql = f"CASE WHEN regexp_full_match({text}, {shape}) AND {moment} {years} THEN {moment} END"
    return Column(name, "TIMESTAMPTZ", description, sql)


def _texts(name: str, paths: tuple[str, ...], description: str) -> Column:
    found = [f"coalesce(json_extract(doc, {literal(path)}), [])" for path in paths]
    strings = f"list_filter({' || '.join(found)}, lambda found: json_type(found) = 'VARCHAR')"
    sql = f"CASE WHEN doc IS NOT NULL THEN list_transform({strings}, lambda found: found ->> '$') END"
    return Column(name, "VARCHAR[]", description, sql)


def _did_of(name: str, path: str, description: str) -> Column:
    return Column(name, "VARCHAR", description, rf"nullif(regexp_extract({_string(path)}, '^at://(did:[^/]+)', 1), '')")


_WITNESSED = (
    Column("time", "TIMESTAMPTZ", "When the host witnessed the event: the time to trust.", "make_timestamptz(time_us)"),
    Column("seq", "BIGINT", "The host's sequence number; null on old servers.", "seq"),
    Column("did", "VARCHAR", "The account that the event belongs to.", "did"),
)
_RECORD = (
    *_WITNESSED,
    Column("operation", "VARCHAR", "create, update or delete; a delete has null in the record's columns.", "operation"),
    Column(
        "uri",
        "VARCHAR",
        "The record's address; with `rev` the key to its event.",
        "'at://' || did || '/' || collection || '/' || rkey",
    ),
    Column("rkey", "VARCHAR", "The record's key within its collection.", "rkey"),
    Column("rev", "VARCHAR", "The commit's revision, growing per account.", "rev"),
    Column("cid", "VARCHAR", "The record's content hash; null for a delete.", "cid"),
    _moment("created_at", "$.createdAt", "When the author's client claims that it was written; null if unreadable."),
)
_SUBJECT = (
    _text("subject_uri", "$.subject.uri", "The record that it is about."),
    _text("subject_cid", "$.subject.cid", "That record's version."),
    _did_of("subject_did", "$.subject.uri", "That record's account."),
    _text("via_uri", "$.via.uri", "The repost through which it was found."),
    _text("via_cid", "$.via.cid", "That repost's version."),
)
_UPSTREAM = (
    _whole("upstream_seq", "$.seq", "The relay's sequence number."),
    _moment("upstream_time", "$.time", "When the relay says that it happened."),
)


def _coalesced(name: str, columns: tuple[Column, ...], description: str) -> Column:
    return Column(name, "VARCHAR", description, f"coalesce({', '.join(column.sql for column in columns)})")


def _records(name: str, collection: str, description: str, *columns: Column) -> Table:
    condition = f"kind = {literal(COMMIT)} AND collection = {literal(collection)}"
    return Table(name, f"{description} ({collection}), one row per operation.", "record", condition, _RECORD + columns)


def _changes(name: str, kind: str, description: str, *columns: Column) -> Table:
    return Table(name, description, "payload", f"kind = {literal(kind)}", _WITNESSED + columns + _UPSTREAM)


TABLES: tuple[Table, ...] = (
    _records(
        "posts",
        "app.bsky.feed.post",
        "Posts",
        _text("text", "$.text", "What was written."),
        _texts("langs", ("$.langs[*]",), "Languages that the client claims, BCP 47."),
        _text("reply_parent_uri", "$.reply.parent.uri", "The post that it answers."),
        _text("reply_parent_cid", "$.reply.parent.cid", "That post's version."),
        _text("reply_root_uri", "$.reply.root.uri", "The post that began the thread."),
        _text("reply_root_cid", "$.reply.root.cid", "That post's version."),
        _coalesced(
            "quote_uri",
            (_text("", "$.embed.record.uri", ""), _text("", "$.embed.record.record.uri", "")),
            "The record that it quotes, with or without media.",
        ),
        _coalesced(
            "quote_cid",
            (_text("", "$.embed.record.cid", ""), _text("", "$.embed.record.record.cid", "")),
            "That record's version.",
        ),
        _texts("hashtags", ("$.facets[*].features[*].tag", "$.tags[*]"), "Tags in the text and beside it, without #."),
        _texts("mentions", ("$.facets[*].features[*].did",), "Accounts mentioned in the text."),
        _texts("links", ("$.facets[*].features[*].uri",), "Addresses linked in the text."),
        _text("embed_type", '$.embed."$type"', "What is embedded, as its lexicon names it."),
        _coalesced(
            "external_uri",
            (_text("", "$.embed.external.uri", ""), _text("", "$.embed.media.external.uri", "")),
            "The address of its link card.",
        ),
        Column(
            "images",
            "BIGINT",
            "How many images are embedded.",
            "CASE WHEN doc IS NOT NULL THEN "
            "len(json_extract(doc, '$.embed.images[*]')) + len(json_extract(doc, '$.embed.media.images[*]')) END",
        ),
        _texts(
            "image_alts",
            ("$.embed.images[*].alt", "$.embed.media.images[*].alt"),
            "The images' descriptions, in order.",
        ),
        _coalesced(
            "video_cid",
            (_text("", '$.embed.video.ref."$link"', ""), _text("", '$.embed.media.video.ref."$link"', "")),
            "The embedded video's blob.",
        ),
        _texts("labels", ("$.labels.values[*].val",), "What the author marked it with."),
    ),
    _records("likes", "app.bsky.feed.like", "Likes", *_SUBJECT),
    _records("reposts", "app.bsky.feed.repost", "Reposts", *_SUBJECT),
    _records(
        "follows",
        "app.bsky.graph.follow",
        "Follows",
        _text("subject_did", "$.subject", "The account that is followed."),
        _text("via_uri", "$.via.uri", "The starter pack through which it was found."),
        _text("via_cid", "$.via.cid", "That starter pack's version."),
    ),
    _records(
        "blocks",
        "app.bsky.graph.block",
        "Blocks",
        _text("subject_did", "$.subject", "The account that is blocked."),
    ),
    _records(
        "profiles",
        "app.bsky.actor.profile",
        "Profiles",
        _text("display_name", "$.displayName", "The name shown."),
        _text("description", "$.description", "What the account says of itself."),
        _text("pronouns", "$.pronouns", "The pronouns shown."),
        _text("website", "$.website", "The address shown."),
        _text("avatar_cid", '$.avatar.ref."$link"', "The avatar's blob."),
        _text("banner_cid", '$.banner.ref."$link"', "The banner's blob."),
        _text("pinned_post_uri", "$.pinnedPost.uri", "The post pinned to the profile."),
        _text("pinned_post_cid", "$.pinnedPost.cid", "That post's version."),
        _text("joined_via_uri", "$.joinedViaStarterPack.uri", "The starter pack through which the account joined."),
        _text("joined_via_cid", "$.joinedViaStarterPack.cid", "That starter pack's version."),
        _texts("labels", ("$.labels.values[*].val",), "What the account marked itself with."),
    ),
    _changes(
        "identities",
        IDENTITY,
        "Changes of an account's identity: its handle, keys or server.",
        _text("handle", "$.handle", "The handle after the change; null where the server did not say."),
    ),
    _changes(
        "accounts",
        ACCOUNT,
        "Changes of an account's standing.",
        _flag("active", "$.active", "Whether the account's content is to be shown."),
        _text("status", "$.status", "Why it is not: deactivated, deleted, suspended, takendown, …"),
    ),
)
