"""Which of a stream's events a queue gets. How they come there is `feeding`'s."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.schema import COMMIT
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.storage.lake import check_name

OPERATIONS = ("create", "update", "delete")


@dataclass(frozen=True)
class Feed:
    """A queue's name, and which events enter it. Empty means all; operations and collections constrain commits only.

    InvalidInput where the name is none, or an operation.
    """

    queue: str
    subscription: Subscription = field(default_factory=Subscription)
    operations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.queue, "queue")
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise InvalidInput(f"{operation!r} is not an operation; write {', '.join(OPERATIONS)}")

    @property
    def wanted_operations(self) -> tuple[str, ...]:
        return tuple(name for name in OPERATIONS if not self.operations or name in self.operations)

    @property
    def fingerprint(self) -> str:
        """The choice's identity: the same for the same names in any order."""
        parts = [self.subscription.fingerprint, *self.wanted_operations]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def mask(self, events: pa.RecordBatch) -> pa.Array:
        """Which events are chosen; of their columns `kind`, `collection`, `did` and `operation` are looked at."""
        wanted = pc.is_in(events["operation"], value_set=pa.array(self.wanted_operations, pa.string()))
        return pc.and_(self.subscription.mask(events), pc.or_(pc.not_equal(events["kind"], COMMIT), wanted))
