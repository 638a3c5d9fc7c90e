"""What tests of the connector compare: events as they were simulated, and as they lie in a queue."""

from collections import defaultdict
from collections.abc import Iterable

from jetstream_pipeline import JetstreamRecord, Queue
from jetstream_pipeline.simulator import SimulatedEvent

Identity = tuple[str | int | None, ...]


def identity(record: JetstreamRecord) -> Identity:
    """What makes an event itself, on any host."""
    if record.commit:
        commit = record.commit
        return record.did, commit.rev, commit.collection, commit.rkey, commit.operation
    body = record.identity or record.account
    assert body
    return record.did, record.kind, body.seq


def simulated(events: Iterable[SimulatedEvent]) -> list[Identity]:
    return [identity(JetstreamRecord.from_json(event.message)) for event in events]


def stored(queue: Queue | None) -> list[JetstreamRecord]:
    assert queue
    return [JetstreamRecord.from_json(item.payload) for item in queue.peek(None)]


def by_repository(identities: Iterable[Identity]) -> dict[object, list[Identity]]:
    repositories = defaultdict(list)
    for one in identities:
        repositories[one[0]].append(one)
    return repositories
