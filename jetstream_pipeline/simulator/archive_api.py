"""The archive as its clients see it: lists of segments, plans, and downloads, each on a connection of its own.

Which segments exist belongs to `archive`, which of them a plan names to `plans`. Refusals are worded like the real
server's.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from hmac import compare_digest
from typing import Any, NamedTuple

from websockets.http11 import Request

from jetstream_pipeline.simulator.answers import JSON, Answer, answered, download, refusal
from jetstream_pipeline.simulator.archive import Archive
from jetstream_pipeline.simulator.fault_plan import FaultPlan
from jetstream_pipeline.simulator.faults import ArchiveFault, Compact, Corrupt, CutAfterBytes, Delay, Refuse, Slow
from jetstream_pipeline.simulator.handshake import WARMING_UP
from jetstream_pipeline.simulator.host import Host
from jetstream_pipeline.simulator.plans import PATIENCE_SECONDS, plan, read_wanted
from jetstream_pipeline.simulator.requests import HttpRequest, read_request
from jetstream_pipeline.simulator.segments import Summary, segment_index
from jetstream_pipeline.simulator.sockets import ByteStream
from jetstream_pipeline.simulator.subscription import Refused
from jetstream_pipeline.simulator.subscription_v2 import XrpcRefused

_LARGEST_LIST, _USUAL_LIST = 1000, 100
_BEARER = "bearer "
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_UNSIGNED = re.compile(r"[0-9]{1,18}", re.ASCII)


class _Endpoint(NamedTuple):
    method: str
    is_public: bool
    faults: Callable[[FaultPlan], Iterator[ArchiveFault | None]]
    answer: Callable[[Host, Archive, HttpRequest], Awaitable[Answer]]


def is_of_archive(host: Host, target: str) -> bool:
    """Whether a request is for the archive, and there is one."""
    return host.archive is not None and target.partition("?")[0] in _ENDPOINTS


async def answer_get(host: Host, stream: ByteStream, request: Request) -> None:
    await _serve(host, stream, HttpRequest("GET", request.path, request.headers))


async def answer_post(host: Host, stream: ByteStream, beginning: bytes) -> None:
    """Answer the request that begins so."""
    try:
        request = await read_request(stream, beginning)
        if request is None:
            return
        if not is_of_archive(host, request.target):
            raise Refused(404, "404 page not found\n")
    except Refused as refused:
        await _refused(refused).send(stream)
    else:
        await _serve(host, stream, request)


async def _serve(host: Host, stream: ByteStream, request: HttpRequest) -> None:
    """Answer, and play the request's fault. Raises Ended where the connection is to end in the midst of it."""
    assert host.archive is not None
    fault: ArchiveFault | None = None
    try:
        endpoint = _admitted(host, request)
        fault = next(endpoint.faults(host.faults))
        match fault:
            case Refuse():
                await stream.write(refusal(fault).serialize())
                return
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Compact(share):
                await host.compact(share)
        answer = await endpoint.answer(host, host.archive, request)
    except Refused as refused:
        answer = _refused(refused)
    await _send(stream, answer, fault)


async def _send(stream: ByteStream, answer: Answer, fault: ArchiveFault | None) -> None:
    match fault:
        case Slow(bytes_per_second):
            stream.bytes_per_second = bytes_per_second
        case Corrupt(at) if answer.body:
            body = bytearray(answer.body)
            body[min(at, len(body) - 1)] ^= 0xFF
            answer = Answer(answer.response, memoryview(body))
    await answer.send(stream, cut_after=fault.bytes if isinstance(fault, CutAfterBytes) else None)


def _admitted(host: Host, request: HttpRequest) -> _Endpoint:
    """Raises Refused."""
    endpoint = _ENDPOINTS[request.path]
    if request.method != endpoint.method:
        raise XrpcRefused(405, "MethodNotAllowed", f"expected {endpoint.method}")
    if not endpoint.is_public and host.api_token is not None:
        given = request.headers.get("Authorization", "")
        is_bearer, token = given[: len(_BEARER)].lower() == _BEARER, given[len(_BEARER) :]
        if not is_bearer or not compare_digest(token.encode(), host.api_token.encode()):
            raise XrpcRefused(401, "AuthRequired", "invalid or missing bearer token")
    if host.is_warming_up:
        raise XrpcRefused(503, "ServiceUnavailable", WARMING_UP)
    return endpoint


async def _list(host: Host, archive: Archive, request: HttpRequest) -> Answer:
    limit = _number(request, "limit") if "limit" in request.parameters else _USUAL_LIST
    if limit <= 0:
        raise _invalid("limit must be positive")
    cursor = request.parameters.get("cursor") or "0"
    if not _UNSIGNED.fullmatch(cursor):
        raise _invalid("invalid cursor")
    return _json(await archive.aside(partial(_listed, archive, int(cursor), min(limit, _LARGEST_LIST))))


async def _plan(host: Host, archive: Archive, request: HttpRequest) -> Answer:
    wanted = read_wanted(request.body)
    return _json(await archive.aside(partial(plan, archive, wanted, host.plan_entries)))


async def _segment(host: Host, archive: Archive, request: HttpRequest) -> Answer:
    index = _index(archive, _parameter(request, "name"))
    segment = await archive.aside(partial(archive.segment, index))
    return download(memoryview(segment.data), segment.summary.checksum, request.headers)


async def _block(host: Host, archive: Archive, request: HttpRequest) -> Answer:
    name, number = _parameter(request, "segment"), _number(request, "blockIndex")
    if number < 0:
        raise _invalid("blockIndex must be >= 0")
    index = _index(archive, name)
    segment = await archive.aside(partial(archive.segment, index))
    if number >= len(segment.summary.blocks):
        raise XrpcRefused(404, "BlockNotFound", "block index out of range")
    block = segment.summary.blocks[number]
    frame = memoryview(segment.data)[block.offset : block.offset + block.length]
    return download(frame, f"{segment.summary.checksum}:{number}", request.headers)


_PREFIX = "/xrpc/network.bsky.jetstream."
_ENDPOINTS = {
    f"{_PREFIX}listSegments": _Endpoint("GET", True, lambda faults: faults.lists, _list),
    f"{_PREFIX}planSnapshot": _Endpoint("POST", False, lambda faults: faults.plans, _plan),
    f"{_PREFIX}getSegment": _Endpoint("GET", False, lambda faults: faults.downloads, _segment),
    f"{_PREFIX}getBlock": _Endpoint("GET", False, lambda faults: faults.downloads, _block),
}


def _listed(archive: Archive, first: int, limit: int) -> dict[str, Any]:
    """A page of the list; it ends early where segments must be made first and that takes long."""
    number, late_at = archive.number, time.monotonic() + PATIENCE_SECONDS
    segments: list[dict[str, Any]] = []
    for index in range(first, min(number, first + limit)):
        segments.append(_entry(archive.summary(index)))
        if time.monotonic() > late_at:
            break
    following = first + len(segments)
    return {**({"cursor": str(following)} if following < number else {}), "segments": segments}


def _entry(segment: Summary) -> dict[str, Any]:
    return {
        "checksum": segment.checksum,
        "eventCount": segment.count,
        "index": segment.index,
        "maxSeq": segment.bounds.max_seq,
        "maxWitnessedAt": segment.bounds.max_us,
        "minSeq": segment.bounds.min_seq,
        "minWitnessedAt": segment.bounds.min_us,
        "name": segment.name,
        "sizeBytes": segment.size,
    }


def _parameter(request: HttpRequest, name: str) -> str:
    if name not in request.parameters:
        raise _invalid(f"missing required parameter: {name}")
    return request.parameters[name]


def _number(request: HttpRequest, name: str) -> int:
    text = _parameter(request, name)
    if not _WHOLE_NUMBER.fullmatch(text):
        raise _invalid(f"invalid integer parameter: {name}")
    return int(text)


def _index(archive: Archive, name: str) -> int:
    index = segment_index(name)
    if index is None:
        raise _invalid("malformed segment name")
    if index >= archive.number:
        raise XrpcRefused(404, "SegmentNotFound", "segment not found")
    return index


def _json(value: object) -> Answer:
    return answered(200, json.dumps(value, separators=(",", ":")).encode(), JSON)


def _refused(refused: Refused) -> Answer:
    return answered(refused.status, refused.text.encode(), refused.content_type)


def _invalid(message: str) -> XrpcRefused:
    return XrpcRefused(400, "InvalidRequest", message)
