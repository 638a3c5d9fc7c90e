"""A part of a stream: events, and between them the messages that are none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate

import pyarrow as pa

from jetstream_pipeline.events.decode import Rejected
from jetstream_pipeline.events.schema import NO_EVENTS

_CROWD = 4_096
_CROWD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Part:
    """Events in stream order (`EVENT_SCHEMA`); a message's `after` counts the events of the part before it."""

    events: pa.RecordBatch = field(default_factory=lambda: NO_EVENTS)
    rejected: tuple[Rejected, ...] = ()

    @property
    def is_crowded(self) -> bool:
        """Whether it holds so many messages that are no events that it must not be kept back any longer."""
        size = sum(len(message.message) for message in self.rejected)
        return len(self.rejected) > _CROWD or size > _CROWD_BYTES

    def joined(self, more: Part) -> Part:
        """Both parts as one."""
        if not self.events.num_rows:
            return Part(more.events, (*self.rejected, *more.rejected))
        later = (replace(message, after=message.after + self.events.num_rows) for message in more.rejected)
        (events,) = pa.Table.from_batches([self.events, more.events]).combine_chunks().to_batches()
        return Part(events, (*self.rejected, *later))

    def split(self, before: int) -> tuple[Part, Part]:
        """The first `before` events, and the rest. A message lies where the event before it does."""
        earlier = tuple(message for message in self.rejected if message.after <= before)
        later = (replace(message, after=message.after - before) for message in self.rejected if message.after > before)
        return Part(self.events.slice(0, before), earlier), Part(self.events.slice(before), tuple(later))

    def filtered(self, keep: pa.BooleanArray) -> Part:
        """Only these of the events; the other messages stay between the same ones."""
        if keep.true_count == len(keep):
            return self
        rejected = self.rejected
        if rejected:
            before = [0, *accumulate(keep.to_pylist())]
            rejected = tuple(replace(message, after=before[message.after]) for message in rejected)
        return Part(self.events.filter(keep), rejected)
