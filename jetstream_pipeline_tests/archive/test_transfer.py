"""A segment comes whole, once, in the version that was planned, whatever cuts it; and so does a block."""

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from jetstream_pipeline.archive import client, transfer, web
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.client_errors import BadAnswer, StalePlan
from jetstream_pipeline.archive.errors import ArchiveError
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline_tests import disks
from jetstream_pipeline_tests.archive.asking import ask, beginning, failure, fetch
from jetstream_pipeline_tests.archive.server import Fault, Segment, Server, serving


def test_a_segment_comes_whole_and_once(server: Server, tmp_path: Path) -> None:
    segment, target = server.segments[3], tmp_path / "cache" / "segment"
    fetch(server, segment.unit, target)
    fetch(server, segment.unit, target)
    assert target.read_bytes() == segment.content
    assert list(target.parent.iterdir()) == [target]
    (request,) = server.requests
    assert request.headers["If-Match"] == f'"{segment.checksum}"'
    assert request.headers["Accept-Encoding"] == "identity"
    assert "Range" not in request.headers


def test_a_download_that_is_cut_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    server.faults = [Fault("getSegment", cut=cut) for cut in (7_000, 0, 5_000)]
    fetch(server, segment.unit, tmp_path / "segment")
    assert (tmp_path / "segment").read_bytes() == segment.content
    assert server.served["getSegment"] == 20_000
    ranges = [request.headers.get("Range") for request in server.requests]
    assert ranges == [None, "bytes=7000-", "bytes=7000-", "bytes=12000-"]
    assert server.requests[1].headers["If-Range"] == f'"{segment.checksum}"'


def test_a_download_that_is_cut_again_and_again_ends_as_long_as_bytes_come(tmp_path: Path) -> None:
    segment = Segment.made_up(0, 20 * 2**20)
    with serving(segment) as server:
        server.faults = [Fault("getSegment", cut=2**20 + 1)] * 18
        fetch(server, segment.unit, tmp_path / "segment")
        assert (tmp_path / "segment").read_bytes() == segment.content
        assert server.served["getSegment"] == len(segment.content)


def test_what_a_run_in_vain_brought_is_there_for_the_next_one(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    server.faults = [Fault("getSegment", cut=1_000)] * 6
    said = failure(server, lambda archive: archive.fetch_segment(segment.unit, tmp_path / "segment"), ArchiveError)
    assert said.endswith("tried 6 times in a row")
    assert beginning(tmp_path, segment).stat().st_size == 6_000
    fetch(server, segment.unit, tmp_path / "segment")
    assert server.served["getSegment"] == 20_000


def test_a_segment_whose_last_byte_was_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    beginning(tmp_path, segment).write_bytes(segment.content)
    fetch(server, segment.unit, tmp_path / "segment")
    assert (tmp_path / "segment").read_bytes() == segment.content
    assert server.served["getSegment"] == 0


def test_a_beginning_that_is_longer_than_the_segment_is_forgotten(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    beginning(tmp_path, segment).write_bytes(bytes(20_001))
    fetch(server, segment.unit, tmp_path / "segment")
    assert (tmp_path / "segment").read_bytes() == segment.content


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    segment = server.segments[0]
    server.faults = [Fault("getSegment", cut=7_000)]
    fetch(server, segment.unit, tmp_path / "segment")
    assert (tmp_path / "segment").read_bytes() == segment.content


@pytest.mark.parametrize("etag", ['W/"{}"', '"{}"', "{}"])
def test_a_version_is_one_however_it_is_quoted(server: Server, tmp_path: Path, etag: str) -> None:
    segment = server.segments[0]
    server.faults = [Fault("getSegment", headers={"ETag": etag.format(segment.checksum)})]
    fetch(server, segment.unit, tmp_path / "segment")
    assert (tmp_path / "segment").read_bytes() == segment.content


def test_a_segment_that_was_compacted_wants_another_plan(server: Server, tmp_path: Path) -> None:
    old = server.segments[0]
    beginning(tmp_path, old).write_bytes(old.content[:5000])
    server.segments[0] = new = Segment(0, b"jss0" + bytes(9_000))
    said = failure(server, lambda archive: archive.fetch_segment(old.unit, tmp_path / "segment"), StalePlan)
    assert said == f"{old.name} on HOST has changed since it was planned; plan again"
    assert list(tmp_path.iterdir()) == []
    fetch(server, new.unit, tmp_path / "segment")
    assert (tmp_path / "segment").read_bytes() == new.content


@pytest.mark.parametrize(
    "fault",
    [
        Fault("getSegment", headers={"ETag": '"0123456789abcdef"'}),
        Fault("getSegment", 404),
        Fault("getSegment", 412),
    ],
)
def test_whatever_says_that_the_version_is_gone_wants_another_plan(
    server: Server, tmp_path: Path, fault: Fault
) -> None:
    server.faults = [fault]
    failure(server, lambda archive: archive.fetch_segment(server.segments[0].unit, tmp_path / "one"), StalePlan)
    assert len(server.requests) == 1
    assert StalePlan("", "").passing


def test_a_change_in_the_midst_of_a_download_is_noticed(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    server.faults = [Fault("getSegment", cut=7_000), Fault("getSegment", headers={"ETag": '"0123456789abcdef"'})]
    failure(server, lambda archive: archive.fetch_segment(segment.unit, tmp_path / "segment"), StalePlan)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("getSegment", headers={"ETag": ""}), "does not say which version"),
        (Fault("getSegment", 200, {"ETag": "", "Content-Type": "text/html"}, b"<html>"), "does not say which version"),
        (Fault("getSegment", headers={"Content-Length": str(2**31 + 1)}), "announces 2147483649 bytes"),
        (Fault("getSegment", headers={"Content-Encoding": "gzip"}), "an encoding that was not asked for"),
        (Fault("getSegment", 206, {"Content-Range": "bytes 5-9/10"}), "another part"),
        (Fault("getSegment", 206, {"Content-Range": "bytes 0-9/10"}, bytes(20)), "sends more than 10 bytes"),
        (Fault("getSegment", 206), "another part"),
        (Fault("getSegment", 203), "answered 203"),
    ],
)
def test_what_cannot_be_a_segment_is_not_taken_for_one(server: Server, tmp_path: Path, fault: Fault, said: str) -> None:
    server.faults = [fault]
    assert said in failure(server, lambda one: one.fetch_segment(server.segments[0].unit, tmp_path / "s"), BadAnswer)
    assert list(tmp_path.iterdir()) == []


def test_a_segment_without_an_announced_size_has_a_limit(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = [Fault("getSegment", chunked=True)]
    fetch(server, server.segments[0].unit, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == server.segments[0].content
    monkeypatch.setattr(transfer, "MAX_SEGMENT_BYTES", 10_000)
    server.faults = [Fault("getSegment", chunked=True)]
    failure(server, lambda archive: archive.fetch_segment(server.segments[1].unit, tmp_path / "two"), BadAnswer)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_body_that_drips_is_as_good_as_cut(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> None:
    monkeypatch.setattr(web, "_STRETCH_SEC", 2.0)
    server.gate = threading.Event()
    stack.callback(server.gate.set)
    server.faults = [Fault("getSegment", cut=7_000)]
    fetch(server, server.segments[0].unit, tmp_path / "segment")
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=7000-"]


def test_what_does_not_verify_is_downloaded_once_more_from_its_beginning(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    beginning(tmp_path, segment).write_bytes(bytes(5_000))
    seen = []

    def verify(path: Path) -> None:
        seen.append(path.read_bytes())
        if seen[-1] != segment.content:
            raise ArchiveError("damaged")

    fetch(server, segment.unit, tmp_path / "segment", verify=verify)
    assert [len(content) for content in seen] == [20_000, 20_000]
    assert (tmp_path / "segment").read_bytes() == segment.content
    assert [request.headers.get("Range") for request in server.requests] == ["bytes=5000-", None]


def test_what_never_verifies_is_not_there(server: Server, tmp_path: Path) -> None:
    def verify(path: Path) -> None:
        raise ArchiveError("damaged")

    with pytest.raises(ArchiveError, match=r"^damaged$"):
        fetch(server, server.segments[0].unit, tmp_path / "segment", verify=verify)
    assert len(server.requests) == 2
    assert list(tmp_path.iterdir()) == []


def test_whoever_is_cancelled_leaves_no_thread_behind(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    began, ended = threading.Event(), threading.Event()

    def verify(path: Path) -> None:
        began.set()
        time.sleep(0.1)
        ended.set()

    async def cancelled(archive: Archive) -> bool:
        task = asyncio.create_task(archive.fetch_segment(segment.unit, tmp_path / "segment", verify=verify))
        while not began.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled() and ended.is_set()

    assert ask(server, cancelled)
    assert [path.name for path in tmp_path.iterdir()] == [beginning(tmp_path, segment).name]
    fetch(server, segment.unit, tmp_path / "segment")
    assert server.served["getSegment"] == 20_000


def test_two_downloads_of_one_segment_are_one(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    server.slow = 0.05

    async def both(archive: Archive) -> None:
        await asyncio.gather(*(archive.fetch_segment(segment.unit, tmp_path / "segment") for _ in range(3)))

    ask(server, both)
    assert (tmp_path / "segment").read_bytes() == segment.content
    assert len(server.requests) == 1


def test_whoever_waits_for_a_download_that_fails_takes_it_over(server: Server, tmp_path: Path) -> None:
    segment = server.segments[0]
    server.slow = 0.05
    server.faults = [Fault("getSegment", 400, cut=None), Fault("getSegment")]

    async def both(archive: Archive) -> list[BaseException | None]:
        one = archive.fetch_segment(segment.unit, tmp_path / "segment")
        other = archive.fetch_segment(segment.unit, tmp_path / "segment")
        return await asyncio.gather(one, other, return_exceptions=True)

    assert sorted(type(one).__name__ for one in ask(server, both)) == ["NoneType", "Refused"]
    assert (tmp_path / "segment").read_bytes() == segment.content


_FETCH = """
import asyncio, sys
from pathlib import Path
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.jetstream.hosts import Host

async def fetch(host, name, checksum, target):
    async with Archive(Host.parse(host)) as archive:
        await archive.fetch_segment(Unit(name, 0, checksum, 1, 100), Path(target))

asyncio.run(fetch(*sys.argv[1:]))
"""


def fetching(server: Server, segment: Segment, target: Path) -> subprocess.Popen[bytes]:
    arguments = [server.host.address, segment.name, segment.checksum, str(target)]
    return subprocess.Popen([sys.executable, "-c", _FETCH, *arguments])


def test_a_download_that_was_killed_is_gone_on_with(tmp_path: Path, stack: ExitStack) -> None:
    segment = Segment.made_up(0, 3_000_000)
    server = stack.enter_context(serving(segment))
    server.gate = threading.Event()
    stack.callback(server.gate.set)
    for there in (1_000_000, 2_000_000):
        server.faults = [Fault("getSegment", cut=1_000_000)]
        process = fetching(server, segment, tmp_path / "segment")
        wait_for(lambda: size_of(beginning(tmp_path, segment)) == there)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        process.wait()
    fetch(server, segment.unit, tmp_path / "segment")
    assert (tmp_path / "segment").read_bytes() == segment.content
    assert server.served["getSegment"] == len(segment.content)


def test_two_processes_download_one_segment_once(tmp_path: Path) -> None:
    segment = Segment.made_up(0, 3_000_000)
    with serving(segment) as server:
        server.slow = 0.5
        processes = [fetching(server, segment, tmp_path / "segment") for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        assert server.served["getSegment"] == len(segment.content)
    assert (tmp_path / "segment").read_bytes() == segment.content


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def test_a_full_disk_is_told_and_what_came_is_gone_on_with(tmp_path: Path, stack: ExitStack) -> None:
    segment = Segment.made_up(0, 400_000)
    server = stack.enter_context(serving(segment))
    stack.enter_context(disks.small(tmp_path, 256))
    target = tmp_path / "segment"
    with pytest.raises(StorageError, match=r"^cannot write .*: No space left on device; check that") as error:
        fetch(server, segment.unit, target)
    assert not error.value.passing
    there = beginning(tmp_path, segment).stat().st_size
    assert there > 200_000
    disks.enlarge(tmp_path, 1024)
    fetch(server, segment.unit, target)
    assert target.read_bytes() == segment.content
    assert server.requests[-1].headers["Range"] == f"bytes={there}-"


def test_a_block_comes_as_it_lies_in_the_file(server: Server) -> None:
    server.segments[0] = segment = Segment.made_up(0, blocks=3)
    server.faults = [Fault("getBlock", cut=20)]
    assert ask(server, lambda archive: archive.block(segment.unit, 2)) == segment.blocks[2]
    server.faults = [Fault("getBlock", headers={"ETag": "mine"})]
    assert ask(server, lambda archive: archive.block(segment.unit, 1)) == segment.blocks[1]
    server.faults = [Fault("getBlock", headers={"ETag": f'"{segment.checksum}"'})]
    assert ask(server, lambda archive: archive.block(segment.unit, 0)) == segment.blocks[0]


def test_a_block_of_another_version_wants_another_plan(server: Server) -> None:
    server.segments[0] = segment = Segment.made_up(0, blocks=3)
    failure(server, lambda archive: archive.block(segment.unit, 3), StalePlan)
    server.segments[0].content = b"jss0 anew"
    failure(server, lambda archive: archive.block(Segment.made_up(0).unit, 0), StalePlan)


@pytest.mark.parametrize("body", [b"", b"<html>", b"x" * 5_000])
def test_what_cannot_be_a_block_is_not_taken_for_one(
    server: Server, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(client, "_MAX_BLOCK_BYTES", 4_000)
    server.segments[0] = segment = Segment.made_up(0, blocks=3)
    server.faults = [Fault("getBlock", body=body)]
    failure(server, lambda archive: archive.block(segment.unit, 0), BadAnswer)


def test_random_cuts_never_change_what_comes(tmp_path: Path) -> None:
    noise = random.Random(7)
    segments = [Segment.made_up(number, noise.randint(5, 200_000)) for number in range(20)]
    with serving(*segments) as server:
        for segment in segments:
            server.faults = [Fault("getSegment", cut=noise.randint(0, 100_000)) for _ in range(noise.randint(0, 5))]
            fetch(server, segment.unit, tmp_path / segment.name)
            assert (tmp_path / segment.name).read_bytes() == segment.content
        assert server.served["getSegment"] == sum(len(segment.content) for segment in segments)
