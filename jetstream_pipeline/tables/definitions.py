"""What each typed table holds: which events, and which columns. Writing tables is `build`'s.

A row leads to its event in `events` by (uri, rev), and so to the record as received. Content hashes (CIDs) of records
stay there: they are noise that takes as much room as all the rest. The lexicons are in
https://github.com/bluesky-social/atproto.
"""

from __future__ import annotations

from dataclasses import dataclass

from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, IDENTITY
from jetstream_pipeline.jetstream.subscription import overlap
from jetstream_pipeline.sql import literal
from jetstream_pipeline.tables.columns import (
    DELTA,
    LENGTHS,
    PREFIXED,
    Column,
    at_once,
    coalesced,
    did_of,
    flag,
    moment,
    number_of,
    readable,
    text,
    texts,
    whole,
)


@dataclass(frozen=True)
class Table:
    """A typed table of a window: which events it takes, and the columns that it makes of each, in stream order."""

    name: str
    description: str
    body: str
    """The events' column that holds the JSON: `record` or `payload`."""
    condition: str
    columns: tuple[Column, ...]
    collection: str | None = None
    """The only one whose events it takes; None where it takes changes of accounts."""

    def is_of(self, collections: tuple[str, ...]) -> bool:
        """Whether a stream of these collections, or prefixes (none: of all), has events for it."""
        return self.collection is None or not collections or any(overlap(self.collection, one) for one in collections)

    @property
    def stored(self) -> tuple[Column, ...]:
        """The columns that its file has."""
        return tuple(column for column in self.columns if column.shown is None)

    @property
    def query(self) -> str:
        """The rows of the table's file as a SELECT; its one parameter is the events file's path."""
        values = ",\n    ".join(f"({column.sql})::{column.type} AS {column.name}" for column in self.stored)
        columns, lists = at_once(values)
        return (
            f"SELECT\n    {columns}\nFROM (SELECT *{lists}\n"  # noqa: S608 - constants of this module
            f"FROM (SELECT *, {readable(self.body)} AS doc FROM read_parquet($1, hive_partitioning = false)\n"
            f"WHERE {self.condition}))"
        )


_WITNESSED = (
    Column(
        "time",
        "TIMESTAMPTZ",
        "When the host witnessed the event: the time to trust.",
        "make_timestamptz(time_us)",
        DELTA,
    ),
    Column("seq", "BIGINT", "The host's sequence number; null on old servers.", "seq", DELTA),
    Column("did", "VARCHAR", "The account that the event belongs to.", "did"),
)
_OPERATION = Column(
    "operation", "VARCHAR", "create, update or delete; a delete has null in the record's columns.", "operation"
)
_KEY = (
    Column("rkey", "VARCHAR", "The record's key within its collection.", "rkey", PREFIXED),
    Column("rev", "VARCHAR", "The commit's revision, growing per account.", "rev", PREFIXED),
)
_CREATED_AT = moment(
    "created_at", "$.createdAt", "When the author's client claims that it was written; null if unreadable."
)
_SUBJECT = (
    text("subject_uri", "$.subject.uri", "The record that it is about."),
    did_of("subject_did", "$.subject.uri", "That record's account."),
    text("via_uri", "$.via.uri", "The repost through which it was found."),
)
_UPSTREAM = (
    whole("upstream_seq", "$.seq", "The relay's sequence number."),
    moment("upstream_time", "$.time", "When the relay says that it happened."),
)


def _uri(collection: str) -> Column:
    sql = "'at://' || did || '/' || collection || '/' || rkey"
    shown = f"concat('at://', did, '/{collection}/', rkey)"
    return Column("uri", "VARCHAR", "The record's address; with `rev` the key to its event.", sql, shown=shown)


def _records(name: str, collection: str, description: str, *columns: Column) -> Table:
    condition = f"kind = {literal(COMMIT)} AND collection = {literal(collection)}"
    described = f"{description} ({collection}), one row per operation."
    columns = (*_WITNESSED, _OPERATION, _uri(collection), *_KEY, _CREATED_AT, *columns)
    return Table(name, described, "record", condition, columns, collection)


def _changes(name: str, kind: str, description: str, *columns: Column) -> Table:
    return Table(name, description, "payload", f"kind = {literal(kind)}", _WITNESSED + columns + _UPSTREAM)


TABLES: tuple[Table, ...] = (
    _records(
        "posts",
        "app.bsky.feed.post",
        "Posts",
        text("text", "$.text", "What was written.", LENGTHS),
        texts("langs", ("$.langs[*]",), "Languages that the client claims, BCP 47."),
        text("reply_parent_uri", "$.reply.parent.uri", "The post that it answers."),
        text("reply_root_uri", "$.reply.root.uri", "The post that began the thread."),
        coalesced(
            "quote_uri",
            ("$.embed.record.uri", "$.embed.record.record.uri"),
            "The record that it quotes, with or without media.",
        ),
        texts("hashtags", ("$.facets[*].features[*].tag", "$.tags[*]"), "Tags in the text and beside it, without #."),
        texts("mentions", ("$.facets[*].features[*].did",), "Accounts mentioned in the text."),
        texts("links", ("$.facets[*].features[*].uri",), "Addresses linked in the text."),
        text("embed_type", '$.embed."$type"', "What is embedded, as its lexicon names it."),
        coalesced(
            "external_uri",
            ("$.embed.external.uri", "$.embed.media.external.uri"),
            "The address of its link card.",
        ),
        number_of(
            "images",
            ("$.embed.images[*]", "$.embed.media.images[*]"),
            "How many images are embedded.",
        ),
        texts(
            "image_alts",
            ("$.embed.images[*].alt", "$.embed.media.images[*].alt"),
            "The images' descriptions, in order; '' for an image without one.",
        ),
        coalesced(
            "video_cid",
            ('$.embed.video.ref."$link"', '$.embed.media.video.ref."$link"'),
            "The embedded video's blob.",
        ),
        texts("labels", ("$.labels.values[*].val",), "What the author marked it with."),
    ),
    _records("likes", "app.bsky.feed.like", "Likes", *_SUBJECT),
    _records("reposts", "app.bsky.feed.repost", "Reposts", *_SUBJECT),
    _records(
        "follows",
        "app.bsky.graph.follow",
        "Follows",
        text("subject_did", "$.subject", "The account that is followed."),
        text("via_uri", "$.via.uri", "The starter pack through which it was found."),
    ),
    _records(
        "blocks",
        "app.bsky.graph.block",
        "Blocks",
        text("subject_did", "$.subject", "The account that is blocked."),
    ),
    _records(
        "profiles",
        "app.bsky.actor.profile",
        "Profiles",
        text("display_name", "$.displayName", "The name shown."),
        text("description", "$.description", "What the account says of itself."),
        text("pronouns", "$.pronouns", "The pronouns shown."),
        text("website", "$.website", "The address shown."),
        text("avatar_cid", '$.avatar.ref."$link"', "The avatar's blob."),
        text("banner_cid", '$.banner.ref."$link"', "The banner's blob."),
        text("pinned_post_uri", "$.pinnedPost.uri", "The post pinned to the profile."),
        text("joined_via_uri", "$.joinedViaStarterPack.uri", "The starter pack through which the account joined."),
        texts("labels", ("$.labels.values[*].val",), "What the account marked itself with."),
    ),
    _changes(
        "identities",
        IDENTITY,
        "Changes of an account's identity: its handle, keys or server.",
        text("handle", "$.handle", "The handle after the change; null where the server did not say."),
    ),
    _changes(
        "accounts",
        ACCOUNT,
        "Changes of an account's standing.",
        flag("active", "$.active", "Whether the account's content is to be shown."),
        text("status", "$.status", "Why it is not: deactivated, deleted, suspended, takendown, …"),
    ),
)
