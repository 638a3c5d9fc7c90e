"""A synthetic network: every event of every instant, from a seed and a rate alone.

The same seed and rate give the same bytes in every process and from every starting point; nothing is stored.
This module puts units and records into the order and the JSON text of a Jetstream; serving them belongs to
`server`.
"""

from bisect import bisect_left
from collections.abc import Iterator
from functools import reduce
from itertools import accumulate

import msgspec

from jetstream_pipeline.simulator.accounts import Accounts
from jetstream_pipeline.simulator.event import SimulatedEvent, commit_event
from jetstream_pipeline.simulator.foreign import HALF_A_PAIR, LONE_SURROGATE
from jetstream_pipeline.simulator.identifiers import timestamp
from jetstream_pipeline.simulator.randomness import Randomness
from jetstream_pipeline.simulator.records import OF_SEVERAL_OPERATIONS, Operation, Record, Records
from jetstream_pipeline.simulator.schedule import MINUTE_US, ROLES, Schedule
from jetstream_pipeline.simulator.units import Unit, Units

LARGEST_STEP_BACK_US = 3_000
_UPSTREAM_SEQ_START = 10_000_000_000
EVENTS_PER_GAP = 41
"""Sequence numbers have a gap after so many events."""
_WITH_THE_PREVIOUS, _BY_THE_PREVIOUS = 4, 6
"""Of 256 units, how many are witnessed at the time of the one before, and how many at that time or just before it."""
_STATUS = {
    "deactivation": "deactivated",
    "deletion": "deleted",
    "takedown": "takendown",
    "suspension": "suspended",
}
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}

_encode_json = msgspec.json.Encoder(order="sorted").encode
"""The server sorts what it spells as JSON."""


class Network:
    """The events of a synthetic network of about `rate` events per second."""

    def __init__(self, seed: int = 0, rate: float = 20.0) -> None:
        self.seed = seed
        self.rate = rate
        randomness = Randomness(seed)
        self._schedule = Schedule(randomness, rate)
        accounts = Accounts(randomness, rate)
        self._units = Units(randomness, self._schedule, accounts)
        self._records = Records(randomness, self._units, accounts, rate)

    def events(self, start_us: int, end_us: int) -> Iterator[SimulatedEvent]:
        """The window [start, end) in stream order: from the first event at or after `start_us` up to, not
        including, the first one at or after `end_us`."""
        started = False
        for minute in range(start_us // MINUTE_US, end_us // MINUTE_US + 2):
            for event in self._events_of(minute):
                started = started or event.time_us >= start_us
                if event.time_us >= end_us:
                    return
                if started:
                    yield event

    def page(self, minute: int) -> list[SimulatedEvent]:
        """All events of one minute, which is counted from the epoch. A few carry a time just before it."""
        return list(self._events_of(minute))

    def _events_of(self, minute: int) -> Iterator[SimulatedEvent]:
        number = 0
        time_us = minute * MINUTE_US
        for position in range(self._schedule.layout(minute).count):
            unit = self._units.at(minute, position)
            time_us = self._disordered(unit, time_us)
            for event in self._events_by(unit, time_us, number):
                yield event
                number += 1

    def _events_by(self, unit: Unit, time_us: int, number: int) -> Iterator[SimulatedEvent]:
        """The unit's events; the first one is this number on its page."""
        first_seq = unit.minute * self._schedule.seq_stride
        operations = self._records.operations(unit)
        if not operations:
            yield self._account_event(unit, time_us, first_seq + number + number // EVENTS_PER_GAP)
        for place, operation in enumerate(operations, number):
            yield _commit_event(unit, operation, time_us, first_seq + place + place // EVENTS_PER_GAP)

    def part(self, minute: int, dids: frozenset[str]) -> list[SimulatedEvent]:
        """The events of these repositories on one page; nothing is made of the others."""
        actors = self._units.dids(minute)
        if dids.isdisjoint(actors):
            return []
        several, surplus = self._surplus(minute)
        events: list[SimulatedEvent] = []
        for position in (position for position, did in enumerate(actors) if did in dids):
            unit = self._units.at(minute, position)
            number = position + surplus[bisect_left(several, position)]
            events += self._events_by(unit, self._witnessed_us(unit), number)
        return events

    def number_of_seq(self, seq: int) -> int:
        """How many events stand before this one on its page."""
        offset = seq % self._schedule.seq_stride
        return offset - offset // (EVENTS_PER_GAP + 1)

    @property
    def seq_stride(self) -> int:
        """The first sequence number of a page is its minute times this."""
        return self._schedule.seq_stride

    def minute_of_seq(self, seq: int) -> int:
        """The only page that can hold this sequence number."""
        return seq // self._schedule.seq_stride

    def minute_of_time(self, time_us: int) -> int:
        """The page in which to look for the first event at or after this time."""
        return time_us // MINUTE_US

    def _surplus(self, minute: int) -> tuple[list[int], list[int]]:
        """Where the units stand that may make several events, and for each of these places, and for the end of the
        page, how many more events than units there are before it."""
        layout = self._schedule.layout(minute)
        several = sorted(
            layout.position(role, index) for role in OF_SEVERAL_OPERATIONS for index in range(layout.number_of(role))
        )
        units = (self._units.at(minute, position) for position in several)
        more = (max(0, len(self._records.operations(unit)) - 1) for unit in units)
        return several, list(accumulate(more, initial=0))

    def _disordered(self, unit: Unit, previous_us: int) -> int:
        """The time at which this host witnesses the unit: mostly growing, now and then not."""
        disorder = _disorder(unit)
        if disorder < _WITH_THE_PREVIOUS:
            return previous_us
        if disorder < _BY_THE_PREVIOUS:
            return max(unit.minute * MINUTE_US, previous_us) - unit.words[3] % LARGEST_STEP_BACK_US - 1
        return unit.witnessed_us

    def _witnessed_us(self, unit: Unit) -> int:
        """The time of a single unit, found from the nearest earlier one whose time goes by no other."""
        chain = [unit]
        while chain[-1].position and _disorder(chain[-1]) < _BY_THE_PREVIOUS:
            chain.append(self._units.at(unit.minute, chain[-1].position - 1))
        return reduce(lambda time_us, one: self._disordered(one, time_us), reversed(chain), unit.minute * MINUTE_US)

    def _account_event(self, unit: Unit, time_us: int, seq: int) -> SimulatedEvent:
        did, name = unit.account.did, ROLES[unit.role].name
        upstream_seq = _UPSTREAM_SEQ_START + 2 * (unit.minute * self._schedule.seq_stride + unit.position)
        body: Record = {"did": did, "seq": upstream_seq, "time": timestamp(unit.rev_us)}
        if name == "birth_identity" or (name == "identity" and unit.words[4] % 5 < 2):
            body = {"did": did, "handle": unit.account.handle, **body}
        elif name in _STATUS:
            body = {
                "active": False,
                "did": did,
                "seq": upstream_seq,
                "status": _STATUS[name],
                "time": body["time"],
            }
        elif name != "identity":
            body = {"active": True, **body}
        kind = "account" if "active" in body else "identity"
        payload = _encode_json(body).decode()
        head = f'{{"did":"{did}","time_us":{time_us},"cursor":{seq},"kind":"{kind}"'
        message = f'{head},"{kind}":{payload}}}'.encode()
        return SimulatedEvent(seq, time_us, time_us, did, kind, *(None,) * 6, payload, message)


def _disorder(unit: Unit) -> int:
    """Of 256."""
    return unit.words[1] >> 40 & 0xFF


def _commit_event(unit: Unit, operation: Operation, time_us: int, seq: int) -> SimulatedEvent:
    name, collection, rkey, record, _ = operation
    return commit_event(
        seq=seq,
        time_us=time_us,
        did=unit.account.did,
        rev=unit.rev,
        operation=name,
        collection=collection,
        rkey=rkey,
        record_json=None if record is None else record_text(record),
        cid=None if record is None else operation.cid,
    )


def record_text(record: Record) -> str:
    """The JSON text of a record as Jetstream's encoder spells it."""
    text = _encode_json(record).decode()
    for character, escape in _ESCAPES.items():
        if character in text:
            text = text.replace(character, escape)
    if LONE_SURROGATE in text:
        text = text.replace(LONE_SURROGATE, HALF_A_PAIR)
    return text
