"""What a subscriber wants to receive, and how it says so in a query or in an options update.

The limits and the wording of refusals are those of the real server. Sending is no concern of this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress

from jetstream_pipeline.simulator.pages import Page

MAX_COLLECTIONS = 100
MAX_DIDS = 10_000

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NSID = re.compile(
    rf"[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}", re.ASCII
)
_MAX_NSID_CHARACTERS = 317
_DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]", re.ASCII)
_MAX_DID_CHARACTERS = 2048
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_MAX_SIZE_LIMIT = 2**32 - 1


class InvalidOptions(ValueError):
    """A subscriber asked for something that the server refuses; the text is what it is told."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"subscribe: invalid options: {reason}")


@dataclass(frozen=True)
class Filter:
    """Immutable: an options update replaces it as a whole."""

    collections: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    dids: frozenset[str] = frozenset()
    max_message_bytes: int = 0
    kinds: frozenset[str] = frozenset()

    @classmethod
    def parse(
        cls, collections: Iterable[str], dids: Iterable[str], max_message_bytes: int, kinds: Iterable[str] = ()
    ) -> Filter:
        """Raises InvalidOptions."""
        full, prefixes = _parse_collections(collections)
        wanted = frozenset(map(_parse_did, dids))
        if len(wanted) > MAX_DIDS:
            raise InvalidOptions(f"too many wanted DIDs: {len(wanted)} > {MAX_DIDS}")
        if not 0 < max_message_bytes <= _MAX_SIZE_LIMIT:
            max_message_bytes = 0
        return cls(full, prefixes, wanted, max_message_bytes, frozenset(kinds))

    @property
    def wants_everything(self) -> bool:
        return not (self.collections or self.prefixes or self.dids or self.max_message_bytes or self.kinds)

    def select(self, page: Page, start: int, stop: int) -> Sequence[int]:
        """The wanted events among those of a page from `start` to `stop`."""
        if self.wants_everything:
            return range(start, stop)
        selected: Iterable[int] = range(start, stop)
        if self.collections or self.prefixes or self.kinds:
            wanted = bytes(self._wants(*topic) for topic in page.topics).ljust(256, b"\0")
            selected = compress(selected, page.topic_codes[start:stop].translate(wanted))
        if self.dids:
            selected = [index for index in selected if page.dids[index] in self.dids]
        if self.max_message_bytes:
            selected = [index for index in selected if page.sizes[index] <= self.max_message_bytes]
        return list(selected)

    def _wants(self, kind: str, collection: str | None) -> bool:
        if self.kinds and kind not in self.kinds:
            return False
        # Identity and account events have no collection: no collection filter hides them.
        if collection is None or not (self.collections or self.prefixes):
            return True
        return collection in self.collections or collection.startswith(self.prefixes)


def is_nsid(value: str) -> bool:
    return len(value) <= _MAX_NSID_CHARACTERS and _NSID.fullmatch(value) is not None


def is_did(value: str) -> bool:
    return len(value) <= _MAX_DID_CHARACTERS and _DID.fullmatch(value) is not None


def parse_size_limit(text: str) -> int:
    """Unreadable values are no limit."""
    return int(text) if _WHOLE_NUMBER.fullmatch(text) and len(text) < 20 else 0


def _parse_collections(values: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    full: set[str] = set()
    prefixes: dict[str, None] = {}
    for value in values:
        if value.endswith(".*"):
            prefixes[value[:-1]] = None
        elif is_nsid(value):
            full.add(value)
        else:
            raise InvalidOptions(f"invalid collection: {value}")
        if len(full) + len(prefixes) > MAX_COLLECTIONS:
            raise InvalidOptions(f"too many wanted collections: > {MAX_COLLECTIONS}")
    return frozenset(full), tuple(prefixes)


def _parse_did(value: str) -> str:
    if not is_did(value):
        raise InvalidOptions(f"invalid DID: {value}")
    return value
