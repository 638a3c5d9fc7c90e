"""What was found out is kept beside the data: for a while as an answer, for good as history."""

import fcntl
import json
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from jetstream_pipeline.handles.cache import Attempt, HandleCache
from jetstream_pipeline.handles.errors import HandleCacheError, UnresolvedHandles
from jetstream_pipeline.handles.resolve import ResolvedHandle
from jetstream_pipeline_tests.handles.world import ALICE, BOB, NOON, World


@pytest.fixture(autouse=True)
def alice(world: World) -> None:
    world.appview("alice.test", ALICE)
    world.document(ALICE, "at://alice.test")


def lines(world: World) -> list[dict[str, object]]:
    return [json.loads(line) for line in world.file.read_text().splitlines()]


def test_an_answer_holds_for_a_day(world: World) -> None:
    first = world.resolve("alice.test")
    world.now += timedelta(hours=24) - timedelta(seconds=1)
    assert world.resolve("alice.test") == first == [ResolvedHandle("alice.test", ALICE, "appview", NOON)]
    assert world.asked("alice.test") == 1
    world.now += timedelta(seconds=1)
    (again,) = world.resolve("alice.test")
    assert again.checked_at == world.now
    assert world.asked("alice.test") == 2


def test_a_failure_holds_for_a_minute(world: World) -> None:
    with pytest.raises(UnresolvedHandles) as first:
        world.resolve("bob.test")
    world.appview("bob.test", BOB)
    world.document(BOB, "at://bob.test")
    world.now += timedelta(seconds=59)
    with pytest.raises(UnresolvedHandles) as second:
        world.resolve("bob.test")
    assert str(first.value) == str(second.value)
    world.now += timedelta(seconds=1)
    assert world.did_of("bob.test") == BOB


def test_what_a_clock_ahead_of_ours_wrote_does_not_hold(world: World) -> None:
    world.resolve("alice.test")
    world.now -= timedelta(seconds=1)
    world.resolve("alice.test")
    assert world.asked("alice.test") == 2


@pytest.mark.parametrize("field", ["appview", "plc", "dns"])
def test_what_other_endpoints_said_does_not_hold(world: World, field: str) -> None:
    world.resolve("alice.test")
    (line,) = lines(world)
    world.file.write_text(json.dumps({**line, field: "http://elsewhere.test"}) + "\n")
    world.resolve("alice.test")
    assert world.asked("alice.test") == 2


def test_the_file_tells_which_handle_was_whose_and_who_said_so(world: World) -> None:
    world.resolve("alice.test")
    with pytest.raises(UnresolvedHandles):
        world.resolve("bob.test")
    world.appview("alice.test", BOB)
    world.document(BOB, "at://alice.test")
    world.now += timedelta(days=2)
    assert world.did_of("alice.test") == BOB
    told = [(line["handle"], line.get("did"), line.get("source"), line["checked_at"]) for line in lines(world)]
    assert told == [
        ("alice.test", ALICE, "appview", "2026-07-04T12:00:00Z"),
        ("bob.test", None, None, "2026-07-04T12:00:00Z"),
        ("alice.test", BOB, "appview", "2026-07-06T12:00:00Z"),
    ]
    assert "appview: knows no such handle" in str(lines(world)[1]["reason"])


def test_the_others_are_kept_where_one_fails(world: World) -> None:
    with pytest.raises(UnresolvedHandles):
        world.resolve("alice.test", "bob.test")
    world.resolve("alice.test")
    assert world.asked("alice.test") == 1


@pytest.mark.parametrize("kept", [1, 20, -20, -1])
def test_a_line_that_a_crash_tore_is_passed_over_and_the_next_begins_anew(world: World, kept: int) -> None:
    world.resolve("alice.test")
    whole = world.file.read_bytes()
    world.appview("bob.test", BOB)
    world.document(BOB, "at://bob.test")
    world.file.write_bytes(whole + whole[:kept])
    world.resolve("bob.test")
    world.resolve("alice.test", "bob.test")
    assert (world.asked("alice.test"), world.asked("bob.test")) == (1, 1)
    assert world.file.read_bytes().startswith(whole + whole[:kept] + b"\n{")


@pytest.mark.parametrize(
    "line", [b'{"handle":"\xff"}', b'{"x":' + b"[" * 100_000, b"null", b'{"handle":"alice.test"}', b"", b'"alice.test"']
)
def test_lines_that_cannot_be_read_are_passed_over(world: World, line: bytes) -> None:
    world.file.write_bytes(line + b"\n")
    world.resolve("alice.test")
    world.resolve("alice.test")
    assert world.asked("alice.test") == 1


def test_a_time_without_a_zone_does_not_hold(world: World) -> None:
    world.resolve("alice.test")
    world.file.write_text(world.file.read_text().replace("Z", ""))
    world.resolve("alice.test")
    assert world.asked("alice.test") == 2


ADDING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from jetstream_pipeline.handles.cache import Attempt, HandleCache
cache = HandleCache(Path(sys.argv[1]))
for number in range(200):
    handle = f"user{number}.{sys.argv[2]}.test"
    cache.add(Attempt(handle=handle, checked_at=datetime.now(UTC), reason="x" * 20_000, appview="a", plc="p"))
"""


def test_processes_write_whole_lines_side_by_side(world: World) -> None:
    command = [sys.executable, "-c", ADDING, str(world.file)]
    writers = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    handles = [str(line["handle"]) for line in lines(world)]
    assert sorted(handles) == sorted(f"user{number}.{name}.test" for number in range(200) for name in "abc")


def test_a_line_waits_for_whoever_is_writing(world: World) -> None:
    cache = HandleCache(world.file)
    attempt = Attempt(handle="alice.test", checked_at=NOON, reason="x", appview="a", plc="p")
    with world.file.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer = threading.Thread(target=cache.add, args=(attempt,))
        writer.start()
        writer.join(0.5)
        assert writer.is_alive()
        assert world.file.read_bytes() == b""
    writer.join()
    assert len(lines(world)) == 1


def test_the_folder_is_made(world: World) -> None:
    world.file = world.file.parent / "new" / "handles.jsonl"
    world.resolve("alice.test")
    assert len(lines(world)) == 1


def test_a_file_that_cannot_be_written_is_told(world: World) -> None:
    (world.file.parent / "file").touch()
    world.file = world.file.parent / "file" / "handles.jsonl"
    with pytest.raises(HandleCacheError, match=f"^cannot write {world.file}: "):
        world.resolve("alice.test")


def test_a_file_that_cannot_be_read_is_told(world: World) -> None:
    world.file.mkdir()
    with pytest.raises(HandleCacheError, match=f"^cannot read {world.file}: "):
        HandleCache(world.file).fresh(["alice.test"], world.endpoints, NOON)
