"""What goes into a queue and what comes out of it. How it is stored belongs to `queue`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from pydantic import BaseModel

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.surrogates import masked

Payload = str | dict[str, Any] | BaseModel
"""JSON text, or what becomes JSON text."""


class Status(StrEnum):
    PENDING = "pending"
    CLAIMED = "claimed"
    DEAD = "dead"


@dataclass(frozen=True)
class QueueItem:
    """One item as it stood when it was read. Times are UTC."""

    id: int
    """Grows with the order of adding; never used twice."""
    payload: str
    """JSON text."""
    metadata: dict[str, Any]
    created_at: datetime
    status: str
    attempts: int
    """How often it was claimed."""
    lease_until: datetime | None = None
    reason: str | None = None
    """Why it failed last."""
    token: str | None = None
    """Shows that it was claimed by whoever holds it."""

    def json(self) -> Any:
        """The payload, read."""
        return json.loads(self.payload)


@dataclass(frozen=True)
class QueueStats:
    """What a queue holds now, and what went through it since it was made."""

    pending: int
    claimed: int
    expired: int
    """Of the claimed ones: those whose lease has run out."""
    dead: int
    added: int
    acknowledged: int
    """Acknowledged, or taken out for good."""
    purged: int
    oldest_pending_at: datetime | None
    size_bytes: int


_raw = msgspec.json.Decoder(msgspec.Raw)


def texts(items: Iterable[Payload]) -> list[str]:
    """The items as JSON text. InvalidInput where one is none."""
    if isinstance(items, (str, bytes, dict, BaseModel)):
        raise InvalidInput("give a list of items; for a single one there is add()")
    return [_text(item, number) for number, item in enumerate(items)]


def _text(item: Payload, number: int) -> str:
    try:
        if isinstance(item, BaseModel):
            return json.dumps(item.model_dump(mode="json"))
        if not isinstance(item, str):
            return json.dumps(item, allow_nan=False)
        _raw.decode(masked(item.encode()))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"item {number} is not JSON: {error}") from None
    return item


def metadata_text(metadata: dict[str, Any] | None) -> str:
    try:
        return json.dumps(metadata or {}, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"the metadata is not JSON: {error}") from None


def stored_text(text: str, what: str) -> str:
    """A text that comes back as it was given; InvalidInput where it cannot."""
    if readable(text) != text:
        raise InvalidInput(f"the {what} {text!r} has half a character in it, which cannot be stored")
    return text


def readable(text: str) -> str:
    """A text for people, with half characters written out."""
    return text.encode(errors="backslashreplace").decode()
