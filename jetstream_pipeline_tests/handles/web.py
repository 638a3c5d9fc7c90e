"""A web server on loopback, plain or with TLS, that serves pages by host and path."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Page:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drip: threading.Event | None = None
    """Where set, the body comes byte by byte, without end, until it is set."""


@dataclass
class Web:
    port: int
    pages: dict[tuple[str, str], Page] = field(default_factory=dict)
    """By host (empty: whatever the request says) and path with its query."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Host, path, and headers."""
    before: Callable[[], None] | None = None
    """Called before each answer."""

    def page(self, host: str, path: str) -> Page:
        if self.before:
            self.before()
        return self.pages.get((host, path)) or self.pages.get(("", path)) or Page(status=404)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away, or do not like our certificate, are what some tests are about."""

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, client = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, client


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.requests.append((self.headers["Host"], self.path, dict(self.headers)))
            page = web.page(self.headers["Host"], self.path)
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            if not page.drip:
                self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(page.body)
                while page.drip and not page.drip.wait(0.02):
                    self.wfile.write(b"x")

        def log_message(self, *args: object) -> None: ...

    server = _Server(("127.0.0.1", 0), Handler)
    server.tls = tls
    web = Web(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
