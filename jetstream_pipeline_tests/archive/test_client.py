"""What an archive has, what of it is to be downloaded, and that its bytes come whole, once and of one version."""

import asyncio
import json
import logging
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.archive import client, transfer, web
from jetstream_pipeline.archive.answers import ListPage, PlanPage
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.client_errors import BadAnswer, NoArchive, NotAllowed, StalePlan
from jetstream_pipeline.archive.errors import ArchiveError
from jetstream_pipeline.archive.plans import Plan, Unit, filters, merged
from jetstream_pipeline.archive.tries import retry_after_sec
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.errors import Refused
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline_tests import disks
from jetstream_pipeline_tests.archive.server import Fault, Segment, Server, serving
from jetstream_pipeline_tests.reference import reference

T = TypeVar("T")
TOKEN = "the-token.that~nobody+sees"
ALL = Subscription()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(*map(Segment.made_up, range(5))) as server:
        yield server


class Pauses:
    """Instead of pausing."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def ask(
    server: Server, question: Callable[[Archive], Awaitable[T]], token: str | None = None, pauses: Pauses | None = None
) -> T:
    async def asking() -> T:
        async with Archive(server.host, token, sleep=pauses or Pauses()) as archive:
            return await question(archive)

    return asyncio.run(asking())


def fetch(server: Server, unit: Unit, target: Path, **options: client.Verify) -> None:
    ask(server, lambda archive: archive.fetch_segment(unit, target, **options))


def beginning(folder: Path, segment: Segment) -> Path:
    return folder / f".{segment.name}-{segment.checksum}.part"


def failure(server: Server, question: Callable[[Archive], Awaitable[object]], kind: type[Exception]) -> str:
    with pytest.raises(kind) as error:
        ask(server, question)
    assert "\n" not in str(error.value)
    return str(error.value).replace(server.host.name, "HOST")


def test_all_segments_are_listed_page_by_page(server: Server) -> None:
    server.page = 2
    listed = ask(server, Archive.segments)
    assert [one.name for one in listed] == [segment.name for segment in server.segments]
    assert [one.size_bytes for one in listed] == [20_000] * 5
    assert [(one.min_seq, one.max_seq) for one in listed][:2] == [(1, 100), (101, 200)]
    assert [request.query for request in server.requests] == [
        {"limit": "1000"},
        {"limit": "1000", "cursor": "2"},
        {"limit": "1000", "cursor": "4"},
    ]


def test_a_plan_is_one_even_where_it_comes_in_pages_and_the_archive_grows_meanwhile(server: Server) -> None:
    server.page = 2
    units = tuple(segment.unit for segment in server.segments)
    grown = [*server.segments, Segment.made_up(5)]

    async def plan(archive: Archive) -> Plan:
        planned = asyncio.create_task(archive.plan(ALL))
        while not server.requests:
            await asyncio.sleep(0.001)
        server.segments = grown
        return await planned

    server.slow = 0.05
    found = ask(server, plan)
    tip = found.sealed_tip_seq
    assert tip in (500, 600)
    assert found.units[:5] == units
    bodies = [request.body for request in server.requests]
    assert bodies[0] == {"afterSeq": 0}
    assert bodies[1:] == [{"afterSeq": 200 * n, "beforeSeq": tip} for n in range(1, len(bodies))]


def test_a_plan_keeps_to_its_bounds(server: Server) -> None:
    found = ask(server, lambda archive: archive.plan(ALL, 150, 320))
    assert found == Plan(tuple(segment.unit for segment in server.segments[1:4]), 320)
    assert ask(server, lambda archive: archive.plan(ALL, 10_000)) == Plan((), 500)
    with pytest.raises(ValueError, match="nothing lies after 7 and not after 7"):
        ask(server, lambda archive: archive.plan(ALL, 7, 7))


def test_an_empty_archive_has_an_empty_plan(server: Server) -> None:
    server.segments.clear()
    assert ask(server, lambda archive: archive.plan(ALL)) == Plan((), 0)
    assert ask(server, Archive.segments) == []


def test_filters_are_asked_for_as_the_server_takes_them(server: Server) -> None:
    wanted = Subscription(("app.bsky.graph.*", "app.bsky.feed.post"), ("did:plc:a",), ("commit", "account"))
    ask(server, lambda archive: archive.plan(wanted, before_seq=900))
    assert server.requests[0].body == {
        "kinds": ["commit", "account"],
        "collections": ["app.bsky.graph.*", "app.bsky.feed.post"],
        "dids": ["did:plc:a"],
        "afterSeq": 0,
        "beforeSeq": 900,
    }


def test_collections_are_no_filter_where_no_commits_are_wanted() -> None:
    assert filters(Subscription(("app.bsky.feed.post",), kinds=("identity",))) == {"kinds": ["identity"]}
    assert filters(Subscription(("app.bsky.feed.post",))) == {"collections": ["app.bsky.feed.post"]}
    assert filters(Subscription(kinds=("account", "identity", "commit"))) == {}


_RANGES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 8)).map(lambda pair: range(pair[0], sum(pair))), min_size=1
)


@given(st.lists(_RANGES, min_size=1, max_size=4))
def test_parts_of_a_segment_on_several_pages_are_one_unit_with_each_block_once(pages: list[list[range]]) -> None:
    segment = Segment.made_up(3, 100)
    (unit,) = merged([segment.unit_of(*ranges) for ranges in pages])
    assert list(unit.numbers) == sorted({number for ranges in pages for one in ranges for number in one})
    assert unit.blocks
    assert all(one.stop < other.start for one, other in zip(unit.blocks, unit.blocks[1:], strict=False))
    assert merged([segment.unit, unit]) == merged([unit, segment.unit]) == (segment.unit,)


def test_the_later_version_of_a_segment_that_was_compacted_between_pages_is_taken() -> None:
    old, new = Segment.made_up(3, 100), Segment(3, b"jss0 anew")
    (unit,) = merged([old.unit_of(range(2)), new.unit_of(range(5, 6))])
    assert (unit.checksum, unit.blocks) == (new.checksum, (range(2), range(5, 6)))


@pytest.mark.parametrize("name", ["listSegments", "listSegments_page1", "listSegments_page2"])
def test_lists_of_a_real_server_are_read(name: str) -> None:
    content = reference(f"server/{name}.json").read_bytes()
    page, raw = ListPage.model_validate_json(content), json.loads(content)
    assert json.loads(page.model_dump_json(by_alias=True, exclude_none=True)) == raw


@pytest.mark.parametrize("name", ["after_tip", "all", "block", "did", "identity", "window"])
def test_plans_of_a_real_server_are_read(server: Server, name: str) -> None:
    content = reference(f"server/planSnapshot_{name}.json").read_bytes()
    raw = json.loads(content)
    page = PlanPage.model_validate_json(content)
    assert (page.planned_through_seq, page.sealed_tip_seq) == (raw["plannedThroughSeq"], raw["sealedTipSeq"])
    server.faults = [Fault("planSnapshot", body=content)]
    found = ask(server, lambda archive: archive.plan(ALL, 5092))
    assert found.sealed_tip_seq == raw["sealedTipSeq"]
    assert [
        (one.name, one.index, one.checksum, one.min_seq, one.max_seq, one.blocks and list(one.numbers))
        for one in found.units
    ] == [
        (
            *(one[key] for key in ("name", "index", "checksum", "minSeq", "maxSeq")),
            [n for part in one.get("blocks", ()) for n in range(part["first"], part["last"] + 1)] or None,
        )
        for one in raw["segments"]
    ]


UNIT = Segment.made_up(0).bounds | {"mode": "segment"}


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (UNIT | {"name": "../../etc/passwd"}, "segments.0.name"),
        (UNIT | {"checksum": "no"}, "segments.0.checksum"),
        (UNIT | {"index": -1}, "segments.0.index"),
        (UNIT | {"index": "1"}, "segments.0.index"),
        (UNIT | {"minSeq": 200}, "minSeq is greater than maxSeq"),
        (UNIT | {"maxSeq": 2**63}, "segments.0.maxSeq"),
        (UNIT | {"mode": "torrent"}, "segments.0.mode"),
        (UNIT | {"mode": "blocks"}, "no blocks are named"),
        (UNIT | {"mode": "blocks", "blocks": [{"first": 3, "last": 2}]}, "first is greater than last"),
        (UNIT | {"mode": "blocks", "blocks": [{"first": 0, "last": 2**40}]}, "segments.0.blocks.0.last"),
    ],
)
def test_a_plan_that_cannot_be_is_told_in_one_line(server: Server, unit: dict[str, object], said: str) -> None:
    body = json.dumps({"plannedThroughSeq": 1, "sealedTipSeq": 1, "segments": [unit]}).encode()
    server.faults = [Fault("planSnapshot", body=body)]
    assert said in failure(server, lambda archive: archive.plan(ALL), BadAnswer)


LISTED = Segment.made_up(0).bounds | {"sizeBytes": 1, "eventCount": 1, "minWitnessedAt": 0, "maxWitnessedAt": 0}


@pytest.mark.parametrize("time", [{"minWitnessedAt": -(2**62)}, {"maxWitnessedAt": 253_402_300_800_000_000}])
def test_a_time_that_is_no_date_is_told_in_one_line(server: Server, time: dict[str, int]) -> None:
    server.faults = [Fault("listSegments", body=json.dumps({"segments": [LISTED | time]}).encode())]
    assert f"segments.0.{next(iter(time))}" in failure(server, Archive.segments, BadAnswer)
    server.faults = [Fault("listSegments", body=json.dumps({"segments": [LISTED | {"minWitnessedAt": -1}]}).encode())]
    assert len(ask(server, Archive.segments)) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"segments":', b"\xff"])
def test_an_answer_that_is_none_is_told_in_one_line(server: Server, body: bytes) -> None:
    server.faults = [Fault("listSegments", body=body)]
    assert failure(server, Archive.segments, BadAnswer).startswith("HOST's listSegments answered what the protocol")


def test_fields_that_are_not_known_are_ignored(server: Server) -> None:
    server.faults = [Fault("listSegments", body=b'{"segments":[],"more":{"of":"it"}}')]
    assert ask(server, Archive.segments) == []


def test_an_answer_without_an_end_is_not_read_to_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_ANSWER_BYTES", 1000)
    server.faults = [Fault("planSnapshot", body=b" " * 5_000_000)]
    assert "more than 1000 bytes" in failure(server, lambda archive: archive.plan(ALL), BadAnswer)


def test_a_plan_that_makes_no_progress_is_given_up(server: Server) -> None:
    page = {"plannedThroughSeq": 100, "sealedTipSeq": 500, "segments": []}
    server.faults = [Fault("planSnapshot", body=json.dumps(page).encode()) for _ in range(9)]
    assert "comes to no end" in failure(server, lambda archive: archive.plan(ALL), BadAnswer)
    assert len(server.requests) == 2


def test_a_list_that_makes_no_progress_is_given_up(server: Server) -> None:
    again = json.dumps(server.listSegments({"limit": "2"}))
    server.faults = [Fault("listSegments", body=again.encode()) for _ in range(9)]
    assert failure(server, Archive.segments, BadAnswer) == "HOST's archive lists segment 0 after 1"
    server.faults = [Fault("listSegments", body=b'{"segments":[],"cursor":"7"}')]
    assert "has no end" in failure(server, Archive.segments, BadAnswer)


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("question", [Archive.segments, lambda archive: archive.plan(ALL)])
def test_a_host_without_the_endpoints_has_no_archive(
    server: Server, status: int, question: Callable[[Archive], Awaitable[object]]
) -> None:
    server.faults = [Fault("listSegments", status), Fault("planSnapshot", status)]
    assert failure(server, question, NoArchive).startswith("HOST offers no archive")
    assert len(server.requests) == 1


def test_a_host_that_answers_with_a_page_for_people_has_no_archive(server: Server) -> None:
    server.faults = [Fault("listSegments", 200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>welcome")]
    failure(server, Archive.segments, NoArchive)
    assert not NoArchive("a").passing


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_host_that_is_busy_is_asked_again_after_growing_pauses(server: Server, status: int) -> None:
    server.faults = [Fault("listSegments", status)] * 3
    pauses = Pauses()
    assert len(ask(server, Archive.segments, pauses=pauses)) == 5
    assert all(0.25 * 2**n <= seconds <= 0.5 * 2**n for n, seconds in enumerate(pauses.seconds))
    assert len(pauses.seconds) == 3


def test_the_host_says_when_to_come_again(server: Server) -> None:
    waits = ["7", "0", "99999", formatdate(time.time() + 60, usegmt=True), "soon"]
    server.faults = [Fault("listSegments", 429, {"Retry-After": text}) for text in waits]
    pauses = Pauses()
    ask(server, Archive.segments, pauses=pauses)
    assert pauses.seconds[0] == 7
    assert 0.5 <= pauses.seconds[1] <= 1
    assert pauses.seconds[2] == 120
    assert 55 <= pauses.seconds[3] <= 60
    assert 4 <= pauses.seconds[4] <= 8


def test_times_to_come_again() -> None:
    def seconds(**headers: str) -> float | None:
        return retry_after_sec(httpx2.Headers({name.replace("_", "-"): value for name, value in headers.items()}))

    date = "Sat, 28 Nov 2026 18:00:00 GMT"
    assert seconds() is seconds(retry_after="-1") is seconds(retry_after="1e9") is None
    assert seconds(retry_after=date, date="Sat, 28 Nov 2026 17:59:00 GMT") == 60
    assert seconds(retry_after=date, date="Sat, 28 Nov 2026 19:00:00 GMT") == 0
    assert seconds(retry_after="Sat, 28 Nov 2006 18:00:00 GMT") == 0


def test_a_host_that_stays_busy_is_told_honestly(server: Server) -> None:
    server.faults = [Fault("listSegments", 503)] * 99
    pauses = Pauses()
    with pytest.raises(ArchiveError, match=r"'s archive answered 503; tried 6 times in a row$") as error:
        ask(server, Archive.segments, pauses=pauses)
    assert error.value.passing
    assert (len(server.requests), len(pauses.seconds)) == (6, 5)


def test_a_host_that_is_not_there_is_told_honestly() -> None:
    with serving() as gone:
        pass
    assert "cannot be reached" in failure(gone, Archive.segments, ArchiveError)


def test_what_the_host_refuses_is_told_in_its_words(server: Server) -> None:
    body = b'{"error":"InvalidRequest","message":"too many\\nDIDs"}'
    server.faults = [Fault("planSnapshot", 400, body=body)]
    assert failure(server, lambda archive: archive.plan(ALL), Refused) == r"HOST's archive answered 400: too many\nDIDs"
    server.faults = [Fault("planSnapshot", 400, body=b"[" * 4000)]
    assert failure(server, lambda archive: archive.plan(ALL), Refused) == "HOST's archive answered 400"
    assert len(server.requests) == 2


def test_the_token_is_sent_with_every_question(server: Server) -> None:
    server.token = TOKEN
    assert len(ask(server, Archive.segments, TOKEN)) == 5
    assert len(ask(server, lambda archive: archive.plan(ALL), TOKEN).units) == 5


def test_who_has_no_token_or_a_wrong_one_is_told_what_to_set(server: Server) -> None:
    server.token = TOKEN
    assert failure(server, Archive.segments, NotAllowed) == (
        "HOST wants a token for its archive (answered 401): set JETSTREAM_API_TOKEN"
    )
    with pytest.raises(NotAllowed, match=r"does not take the token .* set another JETSTREAM_API_TOKEN$") as error:
        ask(server, Archive.segments, "another")
    assert "another" not in str(error.value).replace("set another", "")
    assert not error.value.passing
    assert len(server.requests) == 2


def test_who_would_send_the_token_in_the_clear_is_told_what_to_write() -> None:
    away = web.Web(Host.parse("ws://192.0.2.1:6008"), TOKEN, Pauses())
    assert "is not sent in the clear: write wss://192.0.2.1:6008" in str(away._not_allowed(401))


@pytest.mark.parametrize("address", ["ws://192.0.2.1:6008", "ws://example.org", "ws://localhost.example.org"])
def test_only_loopback_gets_the_token_without_tls(address: str) -> None:
    def carries(host: str) -> bool:
        async def opened() -> bool:
            async with web.Web(Host.parse(host), TOKEN, Pauses()) as made:
                return "authorization" in made._client.headers

        return asyncio.run(opened())

    assert not carries(address)
    assert carries(address.replace("ws:", "wss:"))
    assert carries("ws://[::1]:6008")
    assert carries("ws://localhost:6008")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: Server, tmp_path: Path, status: int) -> None:
    with serving() as elsewhere:
        location = {"Location": f"http://127.0.0.1:{elsewhere.port}/"}
        server.faults = [Fault(name, status, location) for name in ("listSegments", "planSnapshot", "getSegment")]
        questions: list[Callable[[Archive], Awaitable[object]]] = [
            Archive.segments,
            lambda archive: archive.plan(ALL),
            lambda archive: archive.fetch_segment(server.segments[0].unit, tmp_path / "segment"),
        ]
        for question in questions:
            with pytest.raises(BadAnswer, match="a redirect, which is not followed"):
                ask(server, question, TOKEN)
        assert elsewhere.requests == []


def test_the_token_is_in_no_error_log_or_repr(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": "No", "message": f"Bearer {TOKEN} is refused, {TOKEN}!"}).encode()
    unit = server.segments[0].unit
    questions: list[Callable[[Archive], Awaitable[object]]] = [
        Archive.segments,
        lambda archive: archive.plan(ALL),
        lambda archive: archive.fetch_segment(unit, tmp_path / "segment"),
        lambda archive: archive.block(unit, 0),
    ]
    told = ""
    for status in (301, 400, 401, 403, 404, 500):
        for endpoint, question in zip(
            ("listSegments", "planSnapshot", "getSegment", "getBlock"), questions, strict=True
        ):
            server.faults = [Fault(endpoint, status, {"Location": "/elsewhere"}, echo)] * 6
            with pytest.raises(Exception) as error:  # noqa: PT011
                ask(server, question, TOKEN)
            told += "".join(traceback.format_exception(error.value)) + repr(error.value)
    archive = Archive(server.host, TOKEN)
    told += f"{archive!r} {archive._web!r} {vars(archive)}"
    with pytest.raises(InvalidInput) as refusal:
        Archive(server.host, f"{TOKEN} {TOKEN}")
    told += str(refusal.value)
    assert "[token] is refused, [token]!" in told
    assert TOKEN not in told + caplog.text + "".join(capfd.readouterr())
    assert all(request.headers["Authorization"] == f"Bearer {TOKEN}" for request in server.requests)


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
    monkeypatch.setattr(web, "_STRETCH_SEC", 0.1)
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
from jetstream_pipeline.storage.errors import StorageError
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
    until = time.monotonic() + 20
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
