"""Which rows of an archive outlast a compaction.

Deletions stay, and so do identity and account events; only records go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from jetstream_pipeline.simulator.event import SimulatedEvent

Keeps: TypeAlias = Callable[[SimulatedEvent], bool]
"""Whether an event is left."""

_WORDS = 2**64


def keeps_what_stands(backwards: Iterable[Sequence[SimulatedEvent]]) -> Keeps:
    """Without records that a later event among these replaced or deleted, or whose account was deleted later.

    The pieces come from the last to the first; within each, events are in stream order."""
    void: set[int] = set()
    ended_records: set[str | None] = set()
    ended_accounts: set[str] = set()
    for events in backwards:
        for event in reversed(events):
            if _writes(event) and (event.did in ended_accounts or event.uri in ended_records):
                void.add(event.seq)
            if event.operation in ("update", "delete"):
                ended_records.add(event.uri)
            elif event.kind == "account" and '"status":"deleted"' in (event.payload_json or ""):
                ended_accounts.add(event.did)
    return lambda event: event.seq not in void


def keeps_share(left_out: float) -> Keeps:
    """Without this share of the records, always the same ones."""
    if not 0 <= left_out <= 1:
        raise ValueError(f"share={left_out}: choose a share between 0 and 1")
    return lambda event: not _writes(event) or _word(f"{event.uri} {event.rev}") >= left_out * _WORDS


def _writes(event: SimulatedEvent) -> bool:
    return event.operation in ("create", "update")


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
