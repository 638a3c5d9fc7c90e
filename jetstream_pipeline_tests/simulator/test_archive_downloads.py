"""Downloads: whole, in part, under conditions, and refused."""

import asyncio
import socket
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetstream_pipeline.simulator import Simulator
from jetstream_pipeline_tests.simulator.archive_client import ARCHIVE, XRPC, ArchiveClient
from jetstream_pipeline_tests.simulator.conftest import Start, ask
from jetstream_pipeline_tests.simulator.segment_reader import SegmentFile

_NAME = "seg_0000000001.jss"


@pytest.fixture
def simulator(start: Start) -> Simulator:
    return start(**ARCHIVE)


@pytest.fixture
def client(simulator: Simulator) -> ArchiveClient:
    return ArchiveClient(simulator)


def test_a_segment_says_what_it_is(client: ArchiveClient) -> None:
    response = client.segment(_NAME)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert response.headers["ETag"] == f'"{client.listed()[1]["checksum"]}"'
    SegmentFile(response.content)


def test_a_block_is_the_frame_that_the_segment_holds(client: ArchiveClient) -> None:
    file = client.file(_NAME)
    for number in range(len(file.entries)):
        response = client.block(_NAME, number)
        assert response.content == file.frame(number)
        assert response.headers["ETag"] == f'"{file.checksum:016x}:{number}"'


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400_000), st.one_of(st.none(), st.integers(0, 400_000)))
def test_a_range_is_that_part_of_the_whole(client: ArchiveClient, first: int, last: int | None) -> None:
    whole = client.segment(_NAME).content
    response = client.segment(_NAME, {"Range": f"bytes={first}-{'' if last is None else last}"})
    part = whole[first:] if last is None else whole[first : last + 1]
    if not part:
        assert (response.status_code, response.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
    else:
        assert (response.status_code, response.content) == (206, part)
        assert response.headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{len(whole)}"


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=-100", 206, slice(-100, None)),
        ("bytes=-0", 416, None),
        ("bytes=99999999999-", 416, None),
        ("bytes=1-2,4-5", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_other_ranges(client: ArchiveClient, asked: str, status: int, part: slice | None) -> None:
    response = client.segment(_NAME, {"Range": asked})
    assert response.status_code == status
    if part is not None:
        assert response.content == client.segment(_NAME).content[part]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": "TAG"}, 200),
        ({"If-Match": '"other", TAG'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": '"other"', "Range": "bytes=0-1"}, 412),
        ({"If-None-Match": "TAG"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Range": "TAG", "Range": "bytes=5-"}, 206),
        ({"If-Range": '"other"', "Range": "bytes=5-"}, 200),
    ],
)
def test_conditions(client: ArchiveClient, headers: dict[str, str], status: int) -> None:
    whole = client.segment(_NAME)
    tag = whole.headers["ETag"]
    response = client.segment(_NAME, {name: value.replace("TAG", tag) for name, value in headers.items()})
    assert response.status_code == status
    assert response.headers["ETag"] == tag
    assert response.content == {200: whole.content, 206: whole.content[5:]}.get(status, b"")


@pytest.mark.parametrize(
    ("method", "parameters", "status", "error", "message"),
    [
        ("getSegment", {}, 400, "InvalidRequest", "missing required parameter: name"),
        ("getSegment", {"name": "x"}, 400, "InvalidRequest", "malformed segment name"),
        ("getSegment", {"name": "seg_0000000009.jss"}, 404, "SegmentNotFound", "segment not found"),
        ("getBlock", {"segment": _NAME}, 400, "InvalidRequest", "missing required parameter: blockIndex"),
        (
            "getBlock",
            {"segment": _NAME, "blockIndex": "x"},
            400,
            "InvalidRequest",
            "invalid integer parameter: blockIndex",
        ),
        ("getBlock", {"segment": _NAME, "blockIndex": -1}, 400, "InvalidRequest", "blockIndex must be >= 0"),
        ("getBlock", {"segment": _NAME, "blockIndex": 99}, 404, "BlockNotFound", "block index out of range"),
        (
            "getBlock",
            {"segment": "seg_0000000009.jss", "blockIndex": 0},
            404,
            "SegmentNotFound",
            "segment not found",
        ),
        ("planSnapshot", {}, 405, "MethodNotAllowed", "expected POST"),
        ("listSegments", {"limit": 0}, 400, "InvalidRequest", "limit must be positive"),
        ("listSegments", {"limit": "x"}, 400, "InvalidRequest", "invalid integer parameter: limit"),
        ("listSegments", {"cursor": "x"}, 400, "InvalidRequest", "invalid cursor"),
    ],
)
def test_refusals_have_names(
    client: ArchiveClient, method: str, parameters: dict[str, object], status: int, error: str, message: str
) -> None:
    response = client.get(method, **parameters)
    assert (response.status_code, response.json()) == (status, {"error": error, "message": message})
    assert response.headers["Content-Type"] == "application/json"


def test_a_token_protects_plans_and_downloads_but_no_list(start: Start) -> None:
    simulator = start(**ARCHIVE, api_token="s3cret")
    for token in (None, "s3cre", "s3cret2", b"\xdf".decode("latin-1")):
        stranger = ArchiveClient(simulator, token)
        assert len(stranger.listed()) == 3
        for response in (stranger.post("planSnapshot", json={}), stranger.segment(_NAME), stranger.block(_NAME, 0)):
            assert response.status_code == 401
            assert response.json() == {"error": "AuthRequired", "message": "invalid or missing bearer token"}
    friend = ArchiveClient(simulator, "s3cret")
    assert friend.plan()["segments"]
    assert friend.segment(_NAME).content
    assert friend.block(_NAME, 0).content


def test_a_server_that_warms_up_is_not_ready(start: Start) -> None:
    response = ArchiveClient(start(**ARCHIVE, warm_up=timedelta(hours=1))).get("listSegments")
    assert (response.status_code, response.json()["error"]) == (503, "ServiceUnavailable")


def test_a_server_without_an_archive_knows_no_such_address(start: Start) -> None:
    simulator = start()
    client = ArchiveClient(simulator)
    assert client.get("listSegments").status_code == 404
    assert client.post("planSnapshot", json={}).status_code == 404
    assert ask(simulator, "/")[0] == 200


def spoken(simulator: Simulator, *pieces: bytes) -> bytes:
    """What the server answers to these bytes."""
    host, port = simulator.address.removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connected:
        for piece in pieces:
            connected.sendall(piece)
        connected.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connected.recv(65_536):
            answer += data
    return answer


_POST = b"POST " + XRPC.encode() + b"planSnapshot HTTP/1.1\r\nHost: x\r\n"


def test_a_request_may_arrive_in_pieces(simulator: Simulator) -> None:
    answer = spoken(simulator, _POST[:3], _POST[3:40], _POST[40:] + b"Content-Length: 2\r\n", b"\r\n{", b"}")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (_POST + b"\r\n{}", b"411"),
        (_POST + b"Content-Length: 99999999\r\n\r\n", b"413"),
        (_POST + b"no colon\r\n\r\n", b"400"),
        (_POST + b"x: " + b"x" * 70_000, b"431"),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"404"),
        (_POST.replace(b"planSnapshot", b"getSegment") + b"Content-Length: 0\r\n\r\n", b"405"),
    ],
)
def test_requests_that_are_none(simulator: Simulator, request_: bytes, status: bytes) -> None:
    assert spoken(simulator, request_).split(b" ")[1] == status


@pytest.mark.parametrize("request_", [b"", b"PO", _POST, _POST + b"Content-Length: 5\r\n\r\n{"])
def test_a_request_without_an_end_gets_no_answer(simulator: Simulator, request_: bytes) -> None:
    assert spoken(simulator, request_) == b""


async def test_many_downloads_at_once(simulator: Simulator) -> None:
    client = ArchiveClient(simulator)
    whole = await asyncio.to_thread(client.segment, _NAME)
    downloads = await asyncio.gather(*(asyncio.to_thread(client.segment, _NAME) for _ in range(12)))
    assert all(download.content == whole.content for download in downloads)
