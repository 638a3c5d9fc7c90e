"""What becomes of an archive: compaction, crashes, and the faults of its answers."""

import contextlib
from typing import Any

import httpx2
import pytest

from jetstream_pipeline.simulator import Faults, SimulatedEvent
from jetstream_pipeline.simulator.faults import (
    ArchiveFault,
    Compact,
    Corrupt,
    Crash,
    CutAfterBytes,
    Delay,
    Refuse,
    Slow,
)
from jetstream_pipeline_tests.simulator.archive_client import ARCHIVE, FROM, ArchiveClient
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, Start, subscribed
from jetstream_pipeline_tests.simulator.segment_reader import SegmentFile
from jetstream_pipeline_tests.simulator.test_archive_segments import fields, row_fields
from jetstream_pipeline_tests.simulator.test_endings import until_the_end

_NAME = "seg_0000000001.jss"


def superseded(events: list[SimulatedEvent]) -> set[int]:
    """The numbers of records that a later event replaced or deleted."""
    last_of_record = {event.uri: event.seq for event in events if event.operation in ("update", "delete")}
    last_of_account = {event.did: event.seq for event in events if '"status":"deleted"' in str(event.payload_json)}
    return {
        event.seq
        for event in events
        if event.operation in ("create", "update")
        and event.seq < max(last_of_record.get(event.uri, 0), last_of_account.get(event.did, 0))
    }


async def test_compaction_leaves_out_what_is_void(start: Start) -> None:
    simulator = start(**ARCHIVE)
    client = ArchiveClient(simulator)
    before, listed_before = client.files(), client.listed()
    everything = list(simulator.archived_events(0, NOON_US))
    void = superseded(everything)
    assert len(void) > 20
    await simulator.compact()
    after, listed_after = client.files(), client.listed()
    left = [row_fields(row) for file in after for row in file.all_rows()]
    assert left == [fields(event) for event in everything if event.seq not in void]
    assert left == [fields(event) for event in simulator.archived_events(0, NOON_US)]
    for old, new, was, now in zip(before, after, listed_before, listed_after, strict=True):
        same = ("index", "name", "minSeq", "maxSeq", "minWitnessedAt", "maxWitnessedAt")
        assert [now[key] for key in same] == [was[key] for key in same]
        gone = sum(row.seq in void for row in old.all_rows())
        assert now["eventCount"] == new.count == was["eventCount"] - gone
        assert (now["checksum"] != was["checksum"], now["sizeBytes"] < was["sizeBytes"]) == (gone > 0, gone > 0)
        assert [(e.min_seq, e.max_seq, e.min_us, e.max_us) for e in new.entries] == [
            (e.min_seq, e.max_seq, e.min_us, e.max_us) for e in old.entries
        ]


async def test_blocks_can_become_empty_and_are_not_planned(start: Start) -> None:
    simulator = start(**{**ARCHIVE, "block_events": 3})
    await simulator.compact(1.0)
    client = ArchiveClient(simulator)
    file = client.file(_NAME)
    empty = [number for number, entry in enumerate(file.entries) if not entry.count]
    assert len(file.entries) > len(empty) > 0
    assert all(row.kind in ("delete", "identity", "account") for row in file.all_rows())
    assert client.block(_NAME, empty[0]).status_code == 200
    ranges = next(segment for segment in client.plan()["segments"] if segment["name"] == _NAME)["blocks"]
    planned = {number for part in ranges for number in range(part["first"], part["last"] + 1)}
    assert planned == set(range(len(file.entries))) - set(empty)


async def test_compaction_concerns_what_is_sealed(start: Start, clock: Any) -> None:
    simulator = start(**ARCHIVE)
    await simulator.compact(0.5)
    clock.now_us += 2 * MINUTE_US
    counts = [segment["eventCount"] for segment in ArchiveClient(simulator).listed()]
    assert all(count < 0.7 * counts[3] for count in counts[:3])
    with pytest.raises(ValueError, match="share"):
        await simulator.compact(2)
    with pytest.raises(ValueError, match="no archive"):
        await start().compact()


def test_compaction_between_plan_and_download(start: Start) -> None:
    client = ArchiveClient(start(**ARCHIVE, faults=Faults(downloads=(None, Compact(0.1), None, Compact()))))
    segments = client.plan()["segments"]
    tags = [{"If-Match": f'"{segment["checksum"]}"'} for segment in segments]
    assert client.segment(segments[0]["name"], tags[0]).status_code == 200
    assert client.segment(segments[1]["name"], tags[1]).status_code == 412
    assert client.segment(segments[2]["name"], tags[2]).status_code == 412
    tags = [{"If-Match": f'"{segment["checksum"]}:0"'} for segment in client.plan()["segments"]]
    assert client.block(segments[0]["name"], 0, tags[0]).status_code == 412


async def test_a_crash_is_in_the_archive_too(start: Start) -> None:
    simulator = start(**ARCHIVE, faults=Faults(script=(Crash(1500, 100),)))
    client = ArchiveClient(simulator)
    before = client.listed()
    async with subscribed(simulator, f"cursor={FROM}", max_queue=None) as connection:
        await until_the_end(connection)
    after = client.listed()
    assert before != after
    rows = [row_fields(row) for file in client.files() for row in file.all_rows()]
    assert rows == [fields(event) for event in simulator.archived_events(0, NOON_US)]


def test_refusals_say_when_to_come_again(start: Start) -> None:
    busy = Refuse(429, '{"error":"RateLimitExceeded","message":"slow down"}', retry_after=7)
    broken = Refuse(503)
    faults = Faults(lists=(broken,), plans=(None, busy), downloads=(busy, broken))
    client = ArchiveClient(start(**ARCHIVE, faults=faults))
    answers = [
        client.get("listSegments"),
        client.post("planSnapshot", json={}),
        client.post("planSnapshot", json={}),
        client.segment(_NAME),
        client.block(_NAME, 0),
        client.block(_NAME, 0),
        client.get("listSegments"),
    ]
    assert [answer.status_code for answer in answers] == [503, 200, 429, 429, 503, 200, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == [None, None, "7", "7", None, None, None]
    assert answers[2].json()["error"] == "RateLimitExceeded"


@pytest.mark.parametrize("length", [0, 1, 70_000])
def test_a_download_is_cut(start: Start, length: int) -> None:
    simulator = start(**ARCHIVE, faults=Faults(downloads=(CutAfterBytes(length),)))
    url = f"{simulator.address.replace('ws', 'http')}/xrpc/network.bsky.jetstream.getSegment?name={_NAME}"
    received = b""
    with httpx2.stream("GET", url, trust_env=False) as response:
        assert response.status_code == 200
        with contextlib.suppress(httpx2.RemoteProtocolError):
            for piece in response.iter_bytes():
                received += piece
    whole = ArchiveClient(simulator).segment(_NAME)
    assert received == whole.content[:length]
    assert len(whole.content) > length


@pytest.mark.parametrize(("at", "changed"), [(0, 0), (5000, 5000), (10**9, -1)])
def test_a_byte_is_corrupt(start: Start, at: int, changed: int) -> None:
    client = ArchiveClient(start(**ARCHIVE, faults=Faults(downloads=(Corrupt(at),))))
    corrupt, whole = client.segment(_NAME), client.segment(_NAME)
    assert corrupt.headers["ETag"] == whole.headers["ETag"]
    differing = [
        number for number, pair in enumerate(zip(corrupt.content, whole.content, strict=True)) if len({*pair}) > 1
    ]
    assert differing == [changed % len(whole.content)]
    SegmentFile(whole.content)


@pytest.mark.parametrize(("fault", "seconds"), [(Delay(0.3), 0.3), (Slow(500_000), 0.3)])
def test_slow_answers_are_whole(start: Start, fault: ArchiveFault, seconds: float) -> None:
    client = ArchiveClient(start(**ARCHIVE, faults=Faults(downloads=(fault,))))
    slow, quick = client.segment(_NAME), client.segment(_NAME)
    assert slow.content == quick.content
    assert slow.elapsed.total_seconds() >= seconds


def test_faults_of_an_archive_need_one(start: Start) -> None:
    with pytest.raises(ValueError, match="no archive"):
        start(faults=Faults(plans=(Refuse(503),)))
