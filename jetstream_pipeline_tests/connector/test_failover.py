"""When a host fails the next one takes over: nothing is lost between them, and nothing comes twice."""

import asyncio
import time
from contextlib import ExitStack
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from jetstream_pipeline import JetstreamConnector
from jetstream_pipeline.connector.statistics import Progress, Statistics
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.simulator import Faults, Network, Simulator, Witness, running
from jetstream_pipeline.simulator.encoding import Wire
from jetstream_pipeline.simulator.faults import Cut, Fault, Refuse, RetireDictionary, Silence
from jetstream_pipeline_tests.connector.events import by_repository, identity, simulated, stored

pytestmark = pytest.mark.usefixtures("hurried")

_NETWORK = Network(seed=12, rate=100)
_SMALL = Network(seed=12, rate=10)
_HOUR = 3_600
_START = 1_000_000 * ((int(time.time()) - 5 * _HOUR) // (24 * _HOUR) * 24 + 3) * _HOUR
"""Three in the morning, when the network is quiet: a rewind by time must not be longer than a connection."""
_AHEAD = Witness(offset=timedelta(seconds=12), jitter=timedelta(seconds=1), seq_offset=5_000_000, seed=1)
_BEHIND = Witness(offset=timedelta(seconds=-14), jitter=timedelta(seconds=1), seq_offset=900_000, seed=2)
_POST = "app.bsky.feed.post"
_MINUTE = 60_000_000
_AN_HOUR_AGO = 1_000_000 * (int(time.time()) - _HOUR)
_DOWN = (Refuse(503),) * 1000


def host(
    stack: ExitStack,
    *script: Fault | None,
    network: Network = _NETWORK,
    witness: Witness | None = None,
    ready: bool = False,
    **options: Any,
) -> Simulator:
    """A host that goes through its script; `ready`: with what comes first rendered, so that no load makes it late."""
    witness = witness or Witness()
    simulator = Simulator(network, witness=witness, faults=Faults(script=script), **options)
    if ready:
        simulator.render_ahead(_START - _MINUTE, _START + _MINUTE, wire=Wire.V2)
    return stack.enter_context(running(simulator))


def listen(
    connector: JetstreamConnector,
    hosts: list[Simulator],
    count: int,
    cursor: int | None = _START,
    notes: list[str] | None = None,
) -> Statistics:
    def note(progress: Progress) -> None:
        if progress.note and notes is not None:
            notes.append(progress.note)

    addresses = [one.address for one in hosts]
    return asyncio.run(connector.listen_until_count(addresses, [], count, 300, cursor, on_progress=note))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("wire", ["v1", "v2"])
def test_hosts_that_differ_in_time_order_and_numbers_give_one_stream(
    stack: ExitStack, tmp_path: Path, wire: str
) -> None:
    hosts = [
        host(stack, Cut(4_000), *_DOWN),
        host(stack, Cut(6_000), Cut(5_500), *_DOWN, witness=_AHEAD),
        host(stack, Cut(3_500), witness=_BEHIND),
    ]
    connector = JetstreamConnector(data_dir=tmp_path, wire=wire)
    statistics = listen(connector, hosts, 12_000)
    found = [identity(record) for record in stored(connector.queue)]
    assert len(statistics.hosts) == 3
    assert len(found) == len(set(found)) == 12_000
    expected = simulated(islice(_NETWORK.events(_START, _START + 600_000_000), 13_000))
    assert not set(expected[:11_500]) - set(found)
    everybody = by_repository(expected)
    for did, identities in by_repository(found).items():
        assert identities == everybody[did][: len(identities)]


def test_the_next_host_is_asked_where_the_first_cannot_be_reached(stack: ExitStack, tmp_path: Path) -> None:
    dead = host(stack)
    stack.pop_all().close()
    with ExitStack() as living:
        second = host(living)
        statistics = listen(JetstreamConnector(data_dir=tmp_path), [dead, second], 100)
    assert statistics.target_reached
    assert statistics.hosts == (second.address.removeprefix("ws://"),)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answering", [True, False])
def test_a_host_that_falls_silent_for_good_is_left(stack: ExitStack, tmp_path: Path, answering: bool) -> None:
    silent = host(stack, Silence(1_000, answering), *(Silence(0, answering),) * 1000, ready=True)
    second = host(stack, witness=_AHEAD, ready=True)
    statistics = listen(JetstreamConnector(data_dir=tmp_path), [silent, second], 3_000)
    assert len(statistics.hosts) == 2
    assert statistics.records_stored == 3_000


def test_a_host_that_refuses_is_left_out(stack: ExitStack, tmp_path: Path) -> None:
    refusing = host(stack, *(Refuse(403, "not for you"),) * 1000)
    statistics = listen(JetstreamConnector(data_dir=tmp_path), [refusing, host(stack)], 100)
    assert statistics.target_reached


def test_where_every_host_refuses_it_says_so(stack: ExitStack, tmp_path: Path) -> None:
    refusing = host(stack, *(Refuse(403, "not for you"),) * 1000)
    with pytest.raises(InvalidInput, match="403: not for you"):
        listen(JetstreamConnector(data_dir=tmp_path), [refusing], 100)


def test_a_host_that_warms_up_is_waited_for(stack: ExitStack, tmp_path: Path) -> None:
    warming = host(stack, *(Refuse(503, "warming up"),) * 6)
    assert listen(JetstreamConnector(data_dir=tmp_path), [warming], 100).target_reached


def test_where_no_host_is_there_it_ends_soon(stack: ExitStack, tmp_path: Path) -> None:
    dead = host(stack)
    stack.pop_all().close()
    with pytest.raises(JetstreamError, match="cannot reach"):
        listen(JetstreamConnector(data_dir=tmp_path), [dead], 100)


def test_an_old_host_is_read_by_the_first_wire(stack: ExitStack, tmp_path: Path) -> None:
    old = host(stack, v2=False, with_cursor=False)
    connector = JetstreamConnector(data_dir=tmp_path)
    listen(connector, [old], 500)
    assert all(record.seq is None for record in stored(connector.queue))
    with pytest.raises(InvalidInput, match="--wire"):
        listen(JetstreamConnector(data_dir=tmp_path, wire="v2"), [old], 1)


def test_a_sequence_number_is_asked_of_the_first_host_only(stack: ExitStack, tmp_path: Path) -> None:
    first, other = host(stack, Refuse(503), Refuse(503)), host(stack, witness=_AHEAD)
    event = next(first.events(_START, _START + 60_000_000))
    connector = JetstreamConnector(data_dir=tmp_path)
    statistics = listen(connector, [first, other], 10, event.seq)
    assert statistics.hosts == (first.address.removeprefix("ws://"),)
    assert identity(stored(connector.queue)[0]) == simulated([event])[0]
    with pytest.raises(InvalidInput, match="403"):
        listen(connector, [host(stack, *(Refuse(403),) * 9), other], 10, event.seq)


@pytest.mark.parametrize(("wire", "words"), [("v1", "may no longer have"), ("v2", "OutdatedCursor")])
def test_what_a_host_no_longer_has_is_told(stack: ExitStack, tmp_path: Path, wire: str, words: str) -> None:
    notes: list[str] = []
    forgetful = host(stack, lookback=timedelta(minutes=30))
    listen(JetstreamConnector(data_dir=tmp_path, wire=wire), [forgetful], 10, notes=notes)
    assert any(words in note for note in notes)
    notes.clear()
    listen(JetstreamConnector(data_dir=tmp_path, wire=wire), [host(stack)], 10, notes=notes)
    assert not notes


def reaching(minutes: int) -> timedelta:
    """The look-back, as of now, of a host whose history begins so many minutes before `_AN_HOUR_AGO`."""
    return timedelta(seconds=time.time() - _AN_HOUR_AGO / 1_000_000, minutes=minutes)


def listen_to_the_past(
    folder: Path, hosts: list[Simulator], wire: str | None, **options: Any
) -> tuple[Statistics, Any]:
    """Ten minutes of posts that ended an hour ago."""
    connector = JetstreamConnector(data_dir=folder, wire=wire)
    options = {"cursor": _AN_HOUR_AGO - 10 * _MINUTE, "end_timestamp": _AN_HOUR_AGO, **options}
    addresses = [one.address for one in hosts]
    statistics = asyncio.run(connector.listen_until_count(addresses, [_POST], 0, 60, **options))
    return statistics, [identity(record) for record in stored(connector.queue)]


def posts(since_us: int, until_us: int) -> list[Any]:
    events = _SMALL.events(since_us, until_us)
    return simulated(event for event in events if event.collection in (None, _POST))


@pytest.mark.parametrize("wire", ["v1", "v2"])
def test_what_no_host_has_any_more_of_the_past_is_a_gap(stack: ExitStack, tmp_path: Path, wire: str) -> None:
    shorter, longer = (
        host(stack, network=_SMALL, lookback=reaching(2)),
        host(stack, network=_SMALL, lookback=reaching(5)),
    )
    statistics, found = listen_to_the_past(tmp_path, [shorter, longer], wire)
    (gap,) = statistics.gaps
    assert gap.startswith(f"{longer.address.removeprefix('ws://')}'s history begins at ")
    assert statistics.end_cursor_reached
    assert statistics.records_stored == len(found) > 0
    assert found == posts(_AN_HOUR_AGO - 10 * _MINUTE, _AN_HOUR_AGO)[-len(found) :]


@pytest.mark.parametrize("wire", ["v1", "v2"])
def test_a_host_that_has_all_of_the_past_is_found(stack: ExitStack, tmp_path: Path, wire: str) -> None:
    hosts = [host(stack, network=_SMALL, lookback=reaching(5)), host(stack, network=_SMALL)]
    statistics, found = listen_to_the_past(tmp_path, hosts, wire)
    assert statistics.gaps == ()
    assert statistics.hosts == (hosts[1].address.removeprefix("ws://"),)
    assert found == posts(_AN_HOUR_AGO - 10 * _MINUTE, _AN_HOUR_AGO)


def test_a_gap_is_told_though_another_host_is_down(stack: ExitStack, tmp_path: Path) -> None:
    hosts = [host(stack, network=_SMALL, lookback=reaching(5)), host(stack, *_DOWN, network=_SMALL)]
    statistics, found = listen_to_the_past(tmp_path, hosts, None)
    assert statistics.end_cursor_reached
    assert len(statistics.gaps) == 1
    assert found


@pytest.mark.parametrize("wire", ["v1", "v2"])
def test_the_end_is_seen_though_nothing_passes_the_filter(stack: ExitStack, tmp_path: Path, wire: str) -> None:
    statistics, found = listen_to_the_past(
        tmp_path, [host(stack, network=_SMALL)], wire, wanted_dids=["did:plc:nobody"]
    )
    assert statistics.end_cursor_reached
    assert (statistics.records_stored, statistics.gaps, found) == (0, (), [])


def test_so_many_of_the_past_are_so_many_that_pass_the_filter(stack: ExitStack, tmp_path: Path) -> None:
    connector = JetstreamConnector(data_dir=tmp_path)
    options = {"kinds": ["commit"], "cursor": _AN_HOUR_AGO - 10 * _MINUTE, "end_timestamp": _AN_HOUR_AGO}
    statistics = asyncio.run(
        connector.listen_until_count(host(stack, network=_SMALL).address, [_POST], 90, 60, **options)
    )
    assert statistics.target_reached
    assert not statistics.end_cursor_reached
    assert [record.collection for record in stored(connector.queue)] == [_POST] * 90


def test_what_has_not_passed_is_a_stream_as_any_other(stack: ExitStack, tmp_path: Path) -> None:
    """The nearest host serves, whatever it lacks."""
    hosts = [host(stack, lookback=timedelta(minutes=30)), host(stack)]
    connector = JetstreamConnector(data_dir=tmp_path)
    addresses = [one.address for one in hosts]
    options = {"cursor": _START, "end_timestamp": 1_000_000 * (int(time.time()) + _HOUR)}
    statistics = asyncio.run(connector.listen_until_count(addresses, [], 10, 60, **options))
    assert statistics.hosts == (hosts[0].address.removeprefix("ws://"),)
    assert statistics.gaps == ()


def test_a_retired_dictionary_is_replaced_and_the_stream_stays_compressed(stack: ExitStack, tmp_path: Path) -> None:
    notes: list[str] = []
    retiring = host(stack, RetireDictionary(500), RetireDictionary(700), pong_timeout=60)
    connector = JetstreamConnector(data_dir=tmp_path, wire="v2", compress=True)
    statistics = listen(connector, [retiring], 3_000, notes=notes)
    assert statistics.reconnections == 2
    assert statistics.bytes_received < statistics.messages_received * 400
    assert not [note for note in notes if "without compression" in note]
