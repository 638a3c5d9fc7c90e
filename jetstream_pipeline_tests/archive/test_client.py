"""What an archive has, and what of it is to be downloaded: asked for politely, bounded, and told honestly."""

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.archive import client, web
from jetstream_pipeline.archive.answers import ListPage, PlanPage
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.client_errors import BadAnswer, NoArchive, NotAllowed
from jetstream_pipeline.archive.errors import ArchiveError
from jetstream_pipeline.archive.plans import Plan, filters, merged
from jetstream_pipeline.archive.tries import retry_after_sec
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.errors import Refused
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline_tests.archive.asking import ALL, TOKEN, Pauses, ask, failure
from jetstream_pipeline_tests.archive.server import Fault, Segment, Server, serving
from jetstream_pipeline_tests.reference import reference


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
    assert 0 < pauses.seconds[3] <= 60
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
