"""A plan's units come in order and once, within bounds, whatever breaks, whoever else uses the folder."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from jetstream_pipeline.archive import downloads
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.client_errors import StalePlan
from jetstream_pipeline.archive.downloads import Fetched, fetched
from jetstream_pipeline.archive.errors import ArchiveError
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.archive.shelf import size
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline_tests import disks
from jetstream_pipeline_tests.archive.server import Fault, Segment, Server, serving

SIZE = 20_000


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(*(Segment.made_up(index, SIZE, blocks=8) for index in range(8))) as server:
        yield server


def whole(server: Server) -> list[Unit]:
    return [segment.unit for segment in server.segments]


def contents(one: Fetched) -> list[bytes]:
    if one.segment:
        return [one.segment.read_bytes()]
    return [path.read_bytes() for path in one.blocks.values()]


def take(
    server: Server,
    units: Sequence[Unit],
    folder: Path,
    each: Callable[[Fetched], object] = Fetched.release,
    **options: Any,
) -> list[list[bytes]]:
    """What was downloaded, `each` unit released (or not) after it was read."""

    async def taking() -> list[list[bytes]]:
        found = []
        async with Archive(server.host) as archive, aclosing(fetched(archive, units, folder, **options)) as all_of_it:
            async for one in all_of_it:
                found.append(contents(one))
                each(one)
        return found

    return asyncio.run(taking())


def opened(folder: Path) -> list[str]:
    """What this process has open below a folder."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not tell which files are open")
    with_names = (os.path.realpath(one) for one in descriptors.iterdir())
    return [name for name in with_names if name.startswith(str(folder))]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_units_come_in_order_whole_and_once(server: Server, tmp_path: Path) -> None:
    server.slow = 0.01
    assert take(server, whole(server), tmp_path) == [[segment.content] for segment in server.segments]
    assert server.served["getSegment"] == 8 * SIZE
    assert 1 < server.most_at_once <= 4


def test_blocks_come_in_order_and_side_by_side(server: Server, tmp_path: Path) -> None:
    server.slow = 0.01
    first, second, third = server.segments[:3]
    units = [first.unit_of(range(1, 3), range(5, 8)), second.unit, third.unit_of(range(1))]
    numbers: list[list[int]] = []

    def note(one: Fetched) -> None:
        numbers.append(list(one.blocks))
        one.release()

    found = take(server, units, tmp_path, note, at_once=3)
    assert found == [[first.blocks[n] for n in (1, 2, 5, 6, 7)], [second.content], third.blocks[:1]]
    assert numbers == [[1, 2, 5, 6, 7], [], [0]]
    assert server.most_at_once == 3


def test_no_plan_is_no_work(server: Server, tmp_path: Path) -> None:
    assert take(server, [], tmp_path) == []
    assert server.requests == []


@pytest.mark.parametrize("sizes", [True, False])
def test_no_more_lies_on_disk_than_may(
    server: Server, tmp_path: Path, sizes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_USUAL_SEGMENT_BYTES", 2 * SIZE)
    known = {segment.checksum: SIZE for segment in server.segments} if sizes else None
    most = 0

    async def taking() -> None:
        nonlocal most
        async with Archive(server.host) as archive:
            units = fetched(archive, whole(server), tmp_path, max_bytes=3 * SIZE, keep_bytes=0, sizes=known)
            async for one in units:
                await asyncio.sleep(0.05)
                most = max(most, len(list(tmp_path.iterdir())))
                one.release()

    asyncio.run(taking())
    assert most == 3
    assert list(tmp_path.iterdir()) == []


def test_the_unit_that_is_waited_for_comes_though_nothing_was_released(server: Server, tmp_path: Path) -> None:
    kept: list[Fetched] = []
    found = take(server, whole(server), tmp_path, kept.append, max_bytes=1, keep_bytes=0)
    assert found == [[segment.content] for segment in server.segments]
    assert all(one.segment and one.segment.exists() for one in kept)
    for one in kept:
        one.release()
        one.release()
    assert list(tmp_path.iterdir()) == []


def test_no_more_units_than_some_are_ahead(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_MAX_AHEAD", 2)

    async def taking() -> int:
        async with Archive(server.host) as archive, aclosing(fetched(archive, whole(server), tmp_path)) as units:
            (await anext(units)).release()
            await asyncio.sleep(0.1)
            return len(server.requests)

    assert asyncio.run(taking()) == 2


def test_what_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    units = [*whole(server)[:4], *(segment.unit_of(range(4)) for segment in server.segments[4:])]
    first = take(server, units, tmp_path)
    asked = len(server.requests)
    assert take(server, units, tmp_path) == first
    assert len(server.requests) == asked
    wider = server.segments[4].unit_of(range(6))
    assert take(server, [wider], tmp_path) == [server.segments[4].blocks[:6]]
    assert len(server.requests) == asked + 2


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(server: Server, tmp_path: Path) -> None:
    take(server, whole(server), tmp_path, keep_bytes=4 * SIZE)
    assert names(tmp_path)[-3:] == [f"{one.name[:-4]}-{one.checksum}.jss" for one in server.segments[5:]]
    assert len(names(tmp_path)) <= 4
    take(server, whole(server)[5:6], tmp_path, keep_bytes=4 * SIZE)
    take(server, whole(server)[:1], tmp_path, keep_bytes=4 * SIZE)
    assert [name[:14] for name in names(tmp_path)] == ["seg_0000000000", "seg_0000000005", "seg_0000000007"]
    assert server.served["getSegment"] == 9 * SIZE


def test_what_others_hold_or_this_plan_still_needs_is_not_deleted(server: Server, tmp_path: Path) -> None:
    kept: list[Fetched] = []
    take(server, whole(server)[:2], tmp_path, kept.append)
    take(server, whole(server)[7:], tmp_path)
    os.utime(next(tmp_path.glob("seg_0000000007*")), (0, 0))
    take(server, whole(server)[4:], tmp_path, keep_bytes=0, max_bytes=1)
    assert server.served["getSegment"] == 6 * SIZE
    assert [name[:14] for name in names(tmp_path)] == ["seg_0000000000", "seg_0000000001"]
    for one in kept:
        one.release()


def test_beginnings_are_kept_for_days_and_not_for_ever(server: Server, tmp_path: Path) -> None:
    for name, days in ((".young.part", 2), (".old.part", 4)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - days * 86_400,) * 2)
    take(server, whole(server)[:1], tmp_path, keep_bytes=0)
    assert names(tmp_path) == [".young.part"]


def test_what_is_discarded_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    units = [server.segments[0].unit, server.segments[1].unit_of(range(2))]
    take(server, units, tmp_path, Fetched.discard)
    assert list(tmp_path.iterdir()) == []
    take(server, units, tmp_path)
    assert server.served["getSegment"] == 2 * SIZE


def test_a_unit_is_released_at_the_end_of_its_block(server: Server, tmp_path: Path) -> None:
    def read(one: Fetched) -> None:
        with one as same:
            assert same is one

    take(server, whole(server), tmp_path, read, keep_bytes=0)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_raised_in_its_turn(server: Server, tmp_path: Path) -> None:
    units = [segment.unit_of(range(8)) for segment in server.segments]
    server.segments[3] = Segment(3, b"jss0 compacted")
    server.slow = 0.005
    seen = []

    async def taking() -> None:
        async with Archive(server.host) as archive:
            async for one in fetched(archive, units, tmp_path):
                if not seen:
                    await asyncio.sleep(0.3)
                seen.append(one.unit)
                one.release()

    with pytest.raises(StalePlan, match=r"^seg_0000000003\.jss on "):
        asyncio.run(taking())
    assert seen == units[:3]
    assert len(server.requests) < 40


def test_whoever_stops_early_leaves_nothing_running_and_nothing_locked(server: Server, tmp_path: Path) -> None:
    server.slow = 0.01

    async def taking() -> int:
        async with Archive(server.host) as archive:
            async with aclosing(fetched(archive, whole(server), tmp_path)) as units:
                (await anext(units)).release()
            return len(asyncio.all_tasks())

    assert asyncio.run(taking()) == 1
    assert opened(tmp_path) == []
    take(server, whole(server), tmp_path, keep_bytes=0)
    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_verified_before_anybody_sees_it(server: Server, tmp_path: Path) -> None:
    verified = []

    def verify(path: Path) -> None:
        assert path.name.startswith(".")
        verified.append(path.read_bytes())
        if len(verified) == 1:
            raise ArchiveError("damaged")

    found = take(server, [server.segments[0].unit], tmp_path, verify=verify)
    assert verified == [server.segments[0].content] * 2
    assert found == [[server.segments[0].content]]


def test_cuts_and_refusals_change_nothing(server: Server, tmp_path: Path) -> None:
    units = [*whole(server)[:4], *(segment.unit_of(range(8)) for segment in server.segments[4:])]
    wait = {"Retry-After": "0"}
    server.faults = [Fault(name, 429, wait, cut=cut) for name in ("getSegment", "getBlock") for cut in (None, 3)]
    server.faults += [Fault("getSegment", cut=5_000), Fault("getBlock", cut=50)]

    async def no_pause(seconds: float) -> None: ...

    async def taking() -> list[list[bytes]]:
        found = []
        async with Archive(server.host, sleep=no_pause) as archive:
            async for one in fetched(archive, units, tmp_path):
                with one:
                    found.append(contents(one))
        return found

    expected = [[one.content] for one in server.segments[:4]] + [one.blocks for one in server.segments[4:]]
    assert asyncio.run(taking()) == expected


_TAKE = """
import asyncio, sys
from pathlib import Path
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.downloads import fetched
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription

async def take(host, folder, kept):
    async with Archive(Host.parse(host)) as archive:
        plan = await archive.plan(Subscription())
        async for one in fetched(archive, plan.units, Path(folder), keep_bytes=int(kept)):
            assert one.segment is None or one.segment.stat().st_size == 20_000
            assert all(path.stat().st_size >= 100 for path in one.blocks.values())
            one.release()

asyncio.run(take(*sys.argv[1:]))
"""


def taking(server: Server, folder: Path, kept: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _TAKE, server.host.address, str(folder), str(kept)])


def test_a_run_that_was_killed_is_gone_on_with(server: Server, tmp_path: Path, stack: ExitStack) -> None:
    server.gate = threading.Event()
    stack.callback(server.gate.set)
    server.faults = [Fault("getSegment", cut=5_000) for _ in range(4)]
    process = taking(server, tmp_path, 2**30)
    until = time.monotonic() + 60
    while sorted(path.stat().st_size for path in tmp_path.iterdir()) != [5_000] * 4:
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert take(server, whole(server), tmp_path) == [[segment.content] for segment in server.segments]
    assert server.served["getSegment"] == 8 * SIZE


@pytest.mark.parametrize("whole", [True, False])
def test_several_processes_share_a_folder(server: Server, tmp_path: Path, whole: bool) -> None:
    server.whole = whole
    server.slow = 0.02
    processes = [taking(server, tmp_path, kept) for kept in (0, 0, SIZE)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert sum(map(size, tmp_path.iterdir())) <= SIZE


@pytest.mark.parametrize("blocks", [False, True])
def test_a_full_disk_is_told_and_the_next_run_goes_on(tmp_path: Path, stack: ExitStack, blocks: bool) -> None:
    segment = Segment.made_up(0, 400_000, blocks=60)
    server = stack.enter_context(serving(segment))
    stack.enter_context(disks.small(tmp_path, 200))
    unit = segment.unit_of(range(60)) if blocks else segment.unit
    with pytest.raises(StorageError, match=r"No space left on device; check that it is writable and has room$"):
        take(server, [unit], tmp_path)
    before = server.served["getBlock" if blocks else "getSegment"]
    disks.enlarge(tmp_path, 1_000)
    assert take(server, [unit], tmp_path) == [segment.blocks if blocks else [segment.content]]
    assert before
