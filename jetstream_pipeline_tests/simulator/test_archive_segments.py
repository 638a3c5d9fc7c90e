"""Segments hold what the network enumerates, in the real server's format."""

import struct
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from jetstream_pipeline.simulator import Network, SimulatedEvent, Simulator, Witness, blooms
from jetstream_pipeline.simulator.segments import segment_index, segment_name
from jetstream_pipeline_tests.reference import reference
from jetstream_pipeline_tests.simulator.archive_client import ARCHIVE, FROM, ArchiveClient
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, V2, Clock, Start, receive, subscribed
from jetstream_pipeline_tests.simulator.segment_reader import Row, SegmentFile


def fields(event: SimulatedEvent) -> tuple[object, ...]:
    return (
        event.seq,
        event.witnessed_us,
        event.time_us,
        event.did,
        event.operation or event.kind,
        event.collection or "",
        event.rkey or "",
        event.rev or "",
        event.cid,
    )


def row_fields(row: Row) -> tuple[object, ...]:
    cid = row.cid if row.kind in ("create", "update") else None
    name = row.kind
    return row.seq, row.witnessed_us, row.time_us, row.did, name, row.collection, row.rkey, row.rev, cid


def rows(simulator: Simulator) -> list[Row]:
    return [row for file in ArchiveClient(simulator).files() for row in file.all_rows()]


@pytest.mark.parametrize(
    "host",
    [
        {},
        {"witness": Witness(offset=timedelta(seconds=7), jitter=timedelta(seconds=2), seq_offset=5, imported=0.3)},
        {"blind": 0.5},
    ],
)
def test_rows_are_what_the_host_serves(start: Start, clock: Clock, host: dict[str, object]) -> None:
    clock.now_us += 10_000_000
    simulator = start(**ARCHIVE, **host)
    read = rows(simulator)
    events = list(simulator.archived_events(0, NOON_US * 2))
    assert [row_fields(row) for row in read] == [fields(event) for event in events]
    assert FROM - MINUTE_US < events[0].witnessed_us < FROM + 1_000_000
    served = list(simulator.events(FROM - 2 * MINUTE_US, NOON_US + MINUTE_US))
    first = next(number for number, event in enumerate(served) if event.seq == events[0].seq)
    assert [event.seq for event in events] == [event.seq for event in served[first : first + len(events)]]


async def test_rows_are_the_messages_of_the_second_wire(start: Start, network: Network) -> None:
    simulator = start(**ARCHIVE)
    read = [row.message for row in rows(simulator)]
    half_a_pair = b"\\ud83d", "�".encode()
    expected = [event.message_v2 for minute in range(6) for event in network.page(FROM // MINUTE_US + minute)]
    assert read == [message.replace(*half_a_pair) for message in expected]
    async with subscribed(simulator, f"cursor={FROM}", path=V2, max_queue=None) as connection:
        streamed = await receive(connection, len(read) - 20)
    assert {message.replace(*half_a_pair) for message in streamed} <= set(read)


def test_only_what_no_cbor_can_hold_differs_from_the_stream(start: Start, network: Network) -> None:
    simulator = start(**ARCHIVE)
    on_streams = [event for minute in range(6) for event in network.page(FROM // MINUTE_US + minute)]
    told = list(simulator.archived_events(0, NOON_US))
    assert [event.message_v2 for event in told] == [row.message for row in rows(simulator)]
    differing = [pair for pair in zip(told, on_streams, strict=True) if pair[0] != pair[1]]
    assert len(differing) == sum(b"half a pair" in event.message for event in on_streams) > 0
    for archived, streamed in differing:
        assert archived.cid == streamed.cid
        for one, other in ((archived.message, streamed.message), (archived.message_v2, streamed.message_v2)):
            assert b"\\ud83d" in other
            assert one == other.replace(b"\\ud83d", "�".encode())


def test_the_list_tells_what_the_files_hold(start: Start) -> None:
    client = ArchiveClient(start(**ARCHIVE))
    listed = client.listed()
    assert [segment["index"] for segment in listed] == [0, 1, 2]
    for segment in listed:
        file = client.file(segment["name"])
        read = file.all_rows()
        times = [row.witnessed_us for row in read]
        assert segment == {
            "name": f"seg_000000000{segment['index']}.jss",
            "index": segment["index"],
            "sizeBytes": len(file.data),
            "checksum": f"{file.checksum:016x}",
            "eventCount": len(read),
            "minSeq": read[0].seq,
            "maxSeq": read[-1].seq,
            "minWitnessedAt": min(times),
            "maxWitnessedAt": max(times),
        }
        assert file.bounds == (read[0].seq, read[-1].seq, min(times), max(times))
        assert file.dids == len({row.did for row in read})
        assert [entry.count for entry in file.entries[:-1]] == [400] * (len(file.entries) - 1)
        assert all(before.max_seq < after.min_seq for before, after in pairwise(file.entries))


def test_the_footer_finds_repositories_and_collections(start: Start) -> None:
    file = ArchiveClient(start(**ARCHIVE)).file("seg_0000000001.jss")
    counts, blocks = file.collections()
    for number, held in enumerate(blocks):
        assert held == {row.collection or f"${row.kind}" for row in file.rows(number)}
    for name, count in counts.items():
        assert count == sum(row.collection == name for row in file.all_rows())
    number, size = struct.unpack_from("<II", file.data, file.block_blooms_at)
    assert number == len(file.entries)
    for block in range(number):
        bloom = file.data[file.block_blooms_at + 8 + block * size :][:size]
        assert blooms.may_hold(
            file.data[file.bloom_at : file.block_blooms_at], blooms.hashes([file.rows(block)[0].did])
        )
        assert all(blooms.may_hold(bloom, blooms.hashes([row.did])) for row in file.rows(block))
        strangers = [blooms.may_hold(bloom, blooms.hashes([f"did:plc:stranger{one}"])) for one in range(2000)]
        assert sum(strangers) < 40


def test_the_real_server_fills_the_same_filters() -> None:
    file = SegmentFile(reference("segment/seg_0000000000.jss").read_bytes())
    dids = {row.did for row in file.all_rows()}
    assert blooms.bloom(blooms.hashes(dids), len(dids)) == file.data[file.bloom_at : file.block_blooms_at]


def test_the_reader_of_these_tests_reads_what_the_real_server_wrote() -> None:
    file = SegmentFile(reference("segment/seg_0000000000.jss").read_bytes())
    expected = reference("segment/seg_0000000000.v2.jsonl").read_bytes().splitlines()
    assert [row.message for row in file.all_rows()] == expected


@pytest.mark.parametrize(
    ("index", "name"), [(0, "seg_0000000000.jss"), (82, "seg_000000002a.jss"), (36**10 - 1, "seg_zzzzzzzzzz.jss")]
)
def test_names_count_in_base_36(index: int, name: str) -> None:
    assert segment_name(index) == name
    assert segment_index(name) == index


@pytest.mark.parametrize(
    "name", ["", "seg_0.jss", "seg_000000000A.jss", "0000000000", "seg_0000000000", "seg_-000000001.jss"]
)
def test_other_names_are_no_segments(name: str) -> None:
    assert segment_index(name) is None


def test_segments_are_sealed_as_the_clock_moves_on(start: Start, clock: Clock, network: Network) -> None:
    simulator = start(**ARCHIVE)
    client = ArchiveClient(simulator)
    before = client.listed()
    clock.now_us = NOON_US + 2 * MINUTE_US - 1
    assert client.listed() == before
    assert client.segment("seg_0000000003.jss").status_code == 404
    clock.now_us += 1
    after = client.listed()
    assert after[:3] == before
    assert after[3]["minSeq"] == network.page(NOON_US // MINUTE_US)[0].seq
    assert len(after) == 4
    assert len(client.file("seg_0000000003.jss").all_rows()) == after[3]["eventCount"]


def test_what_no_longer_has_room_is_made_again(start: Start) -> None:
    roomy, narrow = (ArchiveClient(start(**ARCHIVE, archive_cache_bytes=size)) for size in (10**9, 0))
    for _ in range(2):
        assert [file.data for file in narrow.files()] == [file.data for file in roomy.files()]


async def test_streams_go_on_while_segments_are_made(start: Start, network: Network) -> None:
    simulator = start(**ARCHIVE)
    async with subscribed(simulator, f"cursor={FROM}", path=V2) as connection:
        assert len(ArchiveClient(simulator).listed()) == 3
        assert len(await receive(connection, 100)) == 100


@pytest.mark.parametrize(
    "options",
    [
        {"segment_minutes": 0},
        {"block_events": 0},
        {"block_events": 4097},
        {"plan_entries": 0},
        {"v2": False},
        {"archive_since": datetime.fromisoformat("2026-07-04")},
        {"archive_since": None, "api_token": "t"},
    ],
)
def test_an_archive_that_cannot_be_is_refused(network: Network, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"archive|segment|block|plan"):
        Simulator(network, **{**ARCHIVE, **options})  # type: ignore[arg-type]
