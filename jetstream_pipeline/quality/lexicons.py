"""What the network's lexicons say of records, as far as drift from it is looked for. Nothing is read here.

Source: `lexicons/app/bsky` and `lexicons/chat/bsky` of https://github.com/bluesky-social/atproto, as of August 2026,
and what the models of https://github.com/MarshalX/atproto 0.0.73 have beyond it: `app.bsky.actor.link`, the profile's
`links`, `app.bsky.graph.referencelistoptout`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """A record's top-level fields beside `$type`, and the JSON type (as DuckDB names it) of those that it must have."""

    fields: tuple[str, ...]
    required: tuple[tuple[str, str], ...] = ()


_STRING, _OBJECT = "VARCHAR", "OBJECT"
_CREATED_AT = ("createdAt", _STRING)

RECORDS = {
    "app.bsky.feed.post": Record(
        ("text", "entities", "facets", "reply", "embed", "langs", "labels", "tags", "createdAt"),
        (("text", _STRING), _CREATED_AT),
    ),
    "app.bsky.feed.like": Record(("subject", "createdAt", "via"), (("subject", _OBJECT), _CREATED_AT)),
    "app.bsky.feed.repost": Record(("subject", "createdAt", "via"), (("subject", _OBJECT), _CREATED_AT)),
    "app.bsky.graph.follow": Record(("subject", "createdAt", "via"), (("subject", _STRING), _CREATED_AT)),
    "app.bsky.graph.block": Record(("subject", "createdAt"), (("subject", _STRING), _CREATED_AT)),
    "app.bsky.actor.profile": Record(
        (
            *("displayName", "description", "pronouns", "website", "links", "avatar", "banner", "labels"),
            *("joinedViaStarterPack", "pinnedPost", "createdAt"),
        )
    ),
}
"""The collections that tables are made of."""

COLLECTIONS = frozenset(
    {
        *RECORDS,
        "app.bsky.actor.contentVisibilityDeclaration",
        "app.bsky.actor.link",
        "app.bsky.actor.status",
        "app.bsky.feed.generator",
        "app.bsky.feed.postgate",
        "app.bsky.feed.threadgate",
        "app.bsky.graph.list",
        "app.bsky.graph.listblock",
        "app.bsky.graph.listitem",
        "app.bsky.graph.referencelistoptout",
        "app.bsky.graph.starterpack",
        "app.bsky.graph.verification",
        "app.bsky.labeler.service",
        "app.bsky.notification.declaration",
        "chat.bsky.actor.declaration",
    }
)
"""Every collection of records that has a lexicon of the network's own."""
