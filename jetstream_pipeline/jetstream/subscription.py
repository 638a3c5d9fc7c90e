"""What is asked of a host: filters with their limits, as query parameters and as our own second look."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.schema import ACCOUNT, COMMIT, IDENTITY

MAX_COLLECTIONS = 100
MAX_DIDS = 10_000
KINDS = (COMMIT, IDENTITY, ACCOUNT)
"""What a stream is made of on every wire. (The v2 wire's sync events would be missing on the other.)"""

_AUTHORITY = r"[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+"
_NSID = re.compile(rf"^{_AUTHORITY}\.[a-zA-Z][a-zA-Z0-9]{{0,62}}\Z")
_PREFIX = re.compile(rf"^{_AUTHORITY}\.\*\Z")
_DID = re.compile(r"^did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]\Z")


@dataclass(frozen=True)
class Subscription:
    """A filter: collections (NSIDs, or prefixes ending in `.*`), DIDs and kinds. Empty means all.

    Collections constrain commits only, as on the wire.
    """

    collections: tuple[str, ...] = ()
    dids: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for collection in self.collections:
            if not (_NSID.match(collection) or _PREFIX.match(collection)):
                raise InvalidInput(f"{collection!r} is not a collection; write app.bsky.feed.post or app.bsky.graph.*")
        for did in self.dids:
            if not _DID.match(did):
                raise InvalidInput(f"{did!r} is not a DID; write did:plc:… or did:web:…")
        for kind in self.kinds:
            if kind not in KINDS:
                raise InvalidInput(f"{kind!r} is not a kind of event; write {', '.join(KINDS)}")
        for what, given, limit in (
            ("collections", self.collections, MAX_COLLECTIONS),
            ("DIDs", self.dids, MAX_DIDS),
        ):
            if len(given) > limit:
                raise InvalidInput(f"{len(given)} {what} are too many: {limit} at most in one subscription")

    @property
    def wanted_kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if not self.kinds or kind in self.kinds)

    @property
    def fingerprint(self) -> str:
        """The filter's identity: the same for the same names in any order."""
        parts = [sorted(set(self.collections)), sorted(set(self.dids))]
        if self.wanted_kinds != KINDS:
            parts.append(list(self.wanted_kinds))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def mask(self, events: pa.RecordBatch) -> pa.Array:
        """Which events the filter lets through."""
        wanted = pc.is_in(events["kind"], value_set=pa.array(self.wanted_kinds, pa.string()))
        if self.collections:
            exact = [name for name in self.collections if not name.endswith("*")]
            passed = pc.or_(
                pc.not_equal(events["kind"], COMMIT),
                pc.is_in(events["collection"], value_set=pa.array(exact, pa.string())),
            )
            for prefix in self.collections:
                if prefix.endswith("*"):
                    starts = pc.fill_null(pc.starts_with(events["collection"], prefix[:-1]), False)
                    passed = pc.or_(passed, starts)
            wanted = pc.and_(wanted, passed)
        if self.dids:
            wanted = pc.and_(wanted, pc.is_in(events["did"], value_set=pa.array(self.dids, pa.string())))
        return wanted


def overlap(one: str, other: str) -> bool:
    """Whether two collections, or prefixes ending in `.*`, have any in common."""
    if one.endswith("*"):
        return other.startswith(one[:-1]) or (other.endswith("*") and one.startswith(other[:-1]))
    return one.startswith(other[:-1]) if other.endswith("*") else one == other
