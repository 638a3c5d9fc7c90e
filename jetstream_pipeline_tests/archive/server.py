"""An archive on loopback: the four endpoints over made-up bytes, with what can go wrong with them."""

import hashlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.jetstream.hosts import Host

_PREFIX = "/xrpc/network.bsky.jetstream."
_WRITE_BYTES = 65_536
SEQS = 100
"""Sequence numbers of each segment."""


@dataclass
class Segment:
    index: int
    content: bytes
    blocks: list[bytes] = field(default_factory=list)

    @classmethod
    def made_up(cls, index: int, size: int = 20_000, blocks: int = 0) -> "Segment":
        noise = random.Random(index)
        frames = [b"\x28\xb5\x2f\xfd" + noise.randbytes(100 + 10 * number) for number in range(blocks)]
        return cls(index, b"jss0" + noise.randbytes(size - 4), frames)

    @property
    def name(self) -> str:
        return f"seg_{self.index:010}.jss"

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:16]

    @property
    def bounds(self) -> dict[str, Any]:
        seq = self.index * SEQS
        return {
            "name": self.name,
            "index": self.index,
            "checksum": self.checksum,
            "minSeq": seq + 1,
            "maxSeq": seq + SEQS,
        }

    @property
    def unit(self) -> Unit:
        return Unit(self.name, self.index, self.checksum, self.index * SEQS + 1, (self.index + 1) * SEQS)

    def unit_of(self, *blocks: range) -> Unit:
        return Unit(self.name, self.index, self.checksum, self.index * SEQS + 1, (self.index + 1) * SEQS, blocks)


@dataclass
class Fault:
    """What one request to `endpoint` gets instead of what it asked for."""

    endpoint: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    """So many bytes of the body come, then the connection ends."""
    chunked: bool = False


@dataclass
class Request:
    endpoint: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Server:
    port: int
    segments: list[Segment] = field(default_factory=list)
    page: int = 1000
    whole: bool = True
    """Whether plans name whole segments, or the first eight blocks of each."""
    token: str = ""
    """Where set, nothing is told without it."""
    faults: list[Fault] = field(default_factory=list)
    ranges: bool = True
    gate: threading.Event | None = None
    """Where set, a body that is cut waits for it before its connection ends."""
    slow: float = 0.0
    """Seconds before each answer."""
    requests: list[Request] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies by endpoint."""
    under_way: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> Host:
        return Host.parse(f"ws://127.0.0.1:{self.port}")

    def asked(self, endpoint: str) -> list[Request]:
        return [request for request in self.requests if request.endpoint == endpoint]

    def fault(self, endpoint: str) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.endpoint == endpoint:
                    self.faults.remove(fault)
                    return fault
        return Fault(endpoint)

    def listSegments(self, query: dict[str, str]) -> dict[str, Any]:
        start, limit = int(query.get("cursor", 0)), min(self.page, int(query["limit"]))
        found = [segment for segment in self.segments if segment.index >= start]
        listed = [
            one.bounds
            | {"sizeBytes": len(one.content), "eventCount": 7, "minWitnessedAt": one.index, "maxWitnessedAt": one.index}
            for one in found[:limit]
        ]
        return {"segments": listed} | ({"cursor": str(found[limit].index)} if len(found) > limit else {})

    def planSnapshot(self, asked: dict[str, Any]) -> dict[str, Any]:
        after = asked.get("afterSeq", 0)
        newest = self.segments[-1].bounds["maxSeq"] if self.segments else 0
        tip = min(newest, asked.get("beforeSeq", newest))
        found = [one.bounds for one in self.segments if one.bounds["maxSeq"] > after and one.bounds["minSeq"] <= tip]
        through = found[self.page - 1]["maxSeq"] if len(found) > self.page else tip
        mode = {"mode": "segment"} if self.whole else {"mode": "blocks", "blocks": [{"first": 0, "last": 7}]}
        units = [one | mode for one in found[: self.page]]
        return {"plannedThroughSeq": through, "sealedTipSeq": tip, "segments": units, "stats": {}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        archive = self.archive
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        endpoint = address.path.removeprefix(_PREFIX)
        with archive.lock:
            body = json.loads(content) if content else None
            archive.requests.append(Request(endpoint, query, dict(self.headers), body))
            archive.under_way += 1
            archive.most_at_once = max(archive.most_at_once, archive.under_way)
        threading.Event().wait(archive.slow)
        try:
            fault = archive.fault(endpoint)
            status, headers, answer = self._answer(endpoint, query, body)
            self._send(
                fault,
                endpoint,
                fault.status or status,
                headers | fault.headers,
                answer if fault.body is None else fault.body,
            )
        finally:
            with archive.lock:
                archive.under_way -= 1

    def _answer(self, endpoint: str, query: dict[str, str], body: Any) -> tuple[int, dict[str, str], bytes]:
        archive = self.archive
        json_type = {"Content-Type": "application/json"}
        if archive.token and self.headers.get("Authorization") != f"Bearer {archive.token}":
            return 401, json_type, b'{"error":"AuthMissing","message":"no"}'
        if endpoint == "listSegments":
            return 200, json_type, json.dumps(archive.listSegments(query)).encode()
        if endpoint == "planSnapshot":
            return 200, json_type, json.dumps(archive.planSnapshot(body)).encode()
        name = query.get("name") or query.get("segment")
        found = [segment for segment in archive.segments if segment.name == name]
        if not found:
            return 404, json_type, b'{"error":"SegmentNotFound","message":"segment not found"}'
        if endpoint == "getSegment":
            return self._file(found[0].content, found[0].checksum)
        number = int(query["blockIndex"])
        if number >= len(found[0].blocks):
            return 404, json_type, b'{"error":"BlockNotFound","message":"block index out of range"}'
        return self._file(found[0].blocks[number], f"{found[0].checksum}:{number}")

    def _file(self, content: bytes, checksum: str) -> tuple[int, dict[str, str], bytes]:
        """As RFC 9110 has it."""
        etag = f'"{checksum}"'
        headers = {"ETag": etag, "Content-Type": "application/octet-stream"}
        if self.headers.get("If-Match", etag) != etag:
            return 412, {}, b""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or not self.archive.ranges or self.headers.get("If-Range", etag) != etag:
            return 200, headers, content
        start = int(asked[1])
        if start >= len(content):
            return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
        place = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return 206, headers | place, content[start:]

    def _send(self, fault: Fault, endpoint: str, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        if not fault.chunked:
            headers = {"Content-Length": str(len(body))} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            self._write(endpoint, body[: fault.cut], fault.chunked)
        if fault.cut is not None:
            self.wfile.flush()
            if self.archive.gate:
                self.archive.gate.wait(30)
            self.close_connection = True

    def _write(self, endpoint: str, body: bytes, chunked: bool) -> None:
        for start in range(0, len(body), _WRITE_BYTES):
            piece = body[start : start + _WRITE_BYTES]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if chunked else piece)
            with self.archive.lock:
                self.archive.served[endpoint] += len(piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None: ...


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what some tests are about."""


@contextmanager
def serving(*segments: Segment) -> Iterator[Server]:
    handler = type("Handler", (_Handler,), {})
    server = _HTTPServer(("127.0.0.1", 0), handler)
    handler.archive = archive = Server(server.server_address[1], list(segments))
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
