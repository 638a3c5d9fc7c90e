"""Whatever happens to connections: every event is stored once, and each repository's in its order."""

import asyncio
import random
import time
from itertools import islice
from pathlib import Path

import pytest

from jetstream_pipeline import JetstreamConnector
from jetstream_pipeline.connector.statistics import Statistics
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.simulator import Faults, Network, SimulatedEvent, Simulator, running
from jetstream_pipeline.simulator.faults import (
    Close,
    Crash,
    Cut,
    CutAfterBytes,
    Duplicate,
    ErrorFrame,
    Fault,
    Garbage,
    HalfFrame,
    Oversized,
    Refuse,
    Reorder,
    Reset,
    RetireDictionary,
    ServeEarly,
    Silence,
    Slow,
)
from jetstream_pipeline_tests.connector.events import Identity, by_repository, identity, simulated, stored

pytestmark = pytest.mark.usefixtures("impatient")

_EVENTS = 10_000
_NETWORK = Network(seed=11, rate=100)
_START = 60_000_000 * (int(time.time()) // 60 - 90)
_REWOUND = 5_000
"""About as many events come again on each connection, once there are so many."""


def every_kind(after: int) -> list[Fault]:
    """One fault of each kind, after so many events where it is that kind."""
    closes = [Close(after, code) for code in (1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012)]
    return [
        *closes,
        Close(after, 1013, "come again"),
        Close(after, 1014),
        Close(0, 1015),
        Close(after, 4000, "a reason of its own"),
        Cut(after),
        Cut(0),
        Reset(after),
        CutAfterBytes(after * 500),
        CutAfterBytes(1),
        HalfFrame(after),
        HalfFrame(0),
        Silence(after, answer_pings=True),
        Silence(after, answer_pings=False),
        Silence(0, answer_pings=True),
        Refuse(503, "warming up"),
        Refuse(502),
        Refuse(500, '{"error":"InternalServerError","message":"oops"}'),
        Refuse(429),
        Duplicate(after, 500),
        Reorder(after, 300),
        Garbage(after, b"\x00\xff not JSON"),
        Garbage(after, b"\x28\xb5\x2f\xfd no frame", binary=True),
        Garbage(after, b""),
        Oversized(after, 9_000_000),
        Oversized(after, 40_000_000),
        RetireDictionary(after),
        ErrorFrame(after, "ConsumerTooSlow", "you are too slow"),
        ServeEarly(10),
        Crash(after, 50),
    ]


def fifty(seed: int) -> tuple[Fault, ...]:
    """Fifty faults of every kind; each connection but the hopeless ones brings a few new events."""
    dice = random.Random(seed)
    faults = every_kind(0)
    faults += dice.choices(faults, k=49 - len(faults))
    order = list(range(len(faults)))
    dice.shuffle(order)
    seen, script = 0, []
    for number in order:
        after = min(seen, _REWOUND) + dice.randrange(60)
        kinds = every_kind(after)
        fault = kinds[number] if number < len(kinds) else dice.choice(kinds)
        script.append(fault)
        seen += 60
    return (*script, Slow(2_000_000))


def cuts(events: list[SimulatedEvent]) -> frozenset[int]:
    """Every few hundred events the connection ends whatever its fault is, so that each one gets its turn."""
    return frozenset(event.seq for event in events[200::200])


def listen(folder: Path, host: Simulator, wire: Wire, compress: bool) -> tuple[Statistics, list[Identity], list[str]]:
    """The statistics, what lies in the queue, and what was noted on the way."""
    connector = JetstreamConnector(data_dir=folder, wire=wire, compress=compress)
    notes: list[str] = []
    statistics = asyncio.run(
        connector.listen_until_count(
            host.address,
            [],
            _EVENTS,
            300,
            _START,
            on_progress=lambda progress: notes.append(progress.note) if progress.note else None,
        )
    )
    return statistics, [identity(record) for record in stored(connector.queue)], notes


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("wire", "compress", "seed"), [(Wire.V1, False, 1), (Wire.V2, False, 2), (Wire.V2, True, 3)])
def test_ten_thousand_events_through_fifty_faults(wire: Wire, compress: bool, seed: int, tmp_path: Path) -> None:
    faults = fifty(seed)
    assert len(faults) == 50
    planned = list(islice(_NETWORK.events(_START, _START + 600_000_000), _EVENTS))
    with running(Simulator(_NETWORK, faults=Faults(script=faults, cut_at_seqs=cuts(planned)))) as simulator:
        statistics, found, notes = listen(tmp_path, simulator, wire, compress)
        expected = simulated(islice(simulator.events(_START, _START + 600_000_000), _EVENTS + 500))
    assert statistics.records_stored == len(found) == len(set(found)) == _EVENTS, notes
    assert statistics.reconnections >= len(faults) - 10, notes
    assert statistics.quarantined >= 1
    everybody = by_repository(expected)
    for did, identities in by_repository(found).items():
        assert identities == everybody[did][: len(identities)]
    assert not set(expected[: _EVENTS - 400]) - set(found)
