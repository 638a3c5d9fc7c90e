"""What a queue stands on: the operations that its calls are made of. They are done in `files` and in `postgres`.

What the calls mean belongs to `queue`, and is the same upon both.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage.queue.items import QueueItem, QueueStats

T = TypeVar("T")
Clock = Callable[[], datetime]

KEYS_REMEMBERED = 200_000
KEYS_FORGOTTEN = 20_000
"""At a time."""

ITEM = "id, payload, metadata, created_at, status, attempts, lease_until, reason, token"
"""The columns of which `item_of` makes an item."""
_NO_METADATA = "{}"


@dataclass(frozen=True)
class Release:
    """What becomes of items whose claim ends without success: pending again (not before `available_at`), or dead where
    they were claimed `max_attempts` times."""

    max_attempts: int
    reason: str
    available_at: datetime | None = None


class Rows(ABC):
    """A queue's rows, within one transaction. Moments are UTC, and name no zone.

    Where items are given, those are meant that are still claimed by whoever holds them; which these were is returned.
    """

    @property
    @abstractmethod
    def now(self) -> datetime:
        """By the one clock of all who use the queue."""

    @abstractmethod
    def insert(self, payloads: Sequence[str], metadata: str) -> int:
        """Append items in this order; the last one's id."""

    @abstractmethod
    def read(self, status: str | None, limit: int | None) -> list[QueueItem]:
        """The oldest items, of one status or all."""

    @abstractmethod
    def claim(self, limit: int | None, token: str, until: datetime) -> list[QueueItem]:
        """The first free items, claimed from now on."""

    @abstractmethod
    def take(self, limit: int | None) -> list[QueueItem]:
        """The first free items, which are gone from now on, as acknowledged."""

    @abstractmethod
    def acknowledge(self, items: Sequence[QueueItem]) -> set[int]:
        """Gone from now on."""

    @abstractmethod
    def release(self, items: Sequence[QueueItem], release: Release) -> set[int]: ...

    @abstractmethod
    def release_expired(self, release: Release) -> int:
        """Those whose lease has run out; how many."""

    @abstractmethod
    def unclaim(self, items: Sequence[QueueItem]) -> set[int]:
        """Pending, and their last claim is not counted."""

    @abstractmethod
    def extend(self, items: Sequence[QueueItem], until: datetime) -> set[int]: ...

    @abstractmethod
    def revive(self) -> int:
        """Dead items become pending, with all their attempts; how many."""

    @abstractmethod
    def purge(self, status: str | None) -> int:
        """Delete the items of one status, or all; how many."""

    @abstractmethod
    def first_time(self, key: str) -> bool:
        """Whether a batch's key is new; it is known from then on."""

    @abstractmethod
    def known(self, keys: Sequence[str]) -> set[int]:
        """Which of the keys are remembered, by their place."""

    @abstractmethod
    def remember(self, keys: Sequence[str]) -> list[int]:
        """Which of the keys are new, by their place; they are remembered from then on, and the oldest forgotten."""

    @abstractmethod
    def bookmark(self, name: str) -> str | None: ...

    @abstractmethod
    def set_bookmark(self, name: str, text: str) -> None: ...

    @abstractmethod
    def stats(self) -> QueueStats: ...


class Companion(ABC):
    """A file that belongs to a queue and is kept where the queue is."""

    @abstractmethod
    def __str__(self) -> str:
        """Where it is, for people."""

    @abstractmethod
    @contextmanager
    def fetched(self) -> Iterator[Path | None]:
        """The file, as long as the body runs; None where there is none."""
        yield None

    @abstractmethod
    def replaced(self) -> AbstractContextManager[Path]:
        """Where to write a file that is durable and takes its place when the body succeeds."""

    @abstractmethod
    def alone(self, busy: PipelineError) -> AbstractContextManager[None]:
        """Hold the companion's lock, or raise `busy` where another one does.

        Whoever has lost it, as one whose connection broke, can add nothing to the queue before the body ends.
        """


class Store(ABC):
    """Where one queue is kept."""

    path: Path | None
    """None where it is no file."""
    location: str
    """For people; no secret is in it."""

    @abstractmethod
    def create(self) -> None:
        """Make the queue unless it is there; whoever does so at the same time shares it."""

    @abstractmethod
    def exists(self) -> bool: ...

    @abstractmethod
    def opened(self) -> AbstractContextManager[None]:
        """Keep at hand what the calls inside need."""

    @abstractmethod
    def read(self, work: Callable[[Rows], T]) -> T:
        """What `work` finds, which changes nothing."""

    @abstractmethod
    def write(self, work: Callable[[Rows], T], *, adds: bool = False) -> T:
        """Do `work` in one transaction: all of it is durable at the end, or nothing of it. It may be done again.

        Of those who say that work `adds`, one has its turn after the other.
        """

    @abstractmethod
    def companion(self, name: str) -> Companion:
        """A file by its name, a relative path."""


def digest(key: str) -> str:
    """What is remembered of a key: 32 hexadecimal digits."""
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def forgets(before: int, new: int) -> bool:
    """Whether keys are to be forgotten where so many were remembered and so many more are."""
    return (before + new) // KEYS_FORGOTTEN > before // KEYS_FORGOTTEN


def item_of(row: tuple[Any, ...]) -> QueueItem:
    number, payload, metadata, created_at, status, attempts, lease_until, reason, token = row
    described = {} if metadata == _NO_METADATA else json.loads(metadata)
    return QueueItem(
        number, payload, described, in_utc(created_at), status, attempts, in_utc(lease_until), reason, token
    )


def in_utc(moment: datetime | None) -> Any:
    return None if moment is None else moment.replace(tzinfo=UTC)


class Place(ABC):
    """Holds any number of queues. As text it says where it is, without a secret."""

    @abstractmethod
    def store(self, name: str, patience: float, clock: Clock | None = None) -> Store:
        """One queue's, which need not be there. `patience`: seconds to wait for others; `clock`: instead of its own."""

    @abstractmethod
    def names(self, patience: float) -> list[str]:
        """Of the queues that are there, in order."""
