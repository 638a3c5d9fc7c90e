"""Receivers of alerts on loopback: a web server that takes POSTs, and a small mail server."""

import json
import socketserver
import ssl
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hook:
    """What was posted; answers with `statuses` in turn, the last of them for ever."""

    port: int
    statuses: list[int] = field(default_factory=lambda: [200])
    location: str = ""
    silent: threading.Event | None = None
    """Where given, nothing is answered before it is set."""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def subjects(self) -> list[str]:
        return [body["subject"] for body in self.bodies]


class _WebServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away, or do not like our certificate, are what some tests are about."""


@contextmanager
def hook(tls: ssl.SSLContext | None = None) -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            made.paths.append(self.path)
            made.headers.append(dict(self.headers))
            made.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if made.silent:
                made.silent.wait(30)
            self.send_response(made.statuses.pop(0) if len(made.statuses) > 1 else made.statuses[0])
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None: ...

    with _WebServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        made = Hook(server.server_address[1])
        with _served(server):
            yield made


@dataclass
class Mailbox:
    """What was delivered, to whom, and what the client said on the way."""

    port: int
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    """Whether TLS begins with the first byte; otherwise STARTTLS is offered where there is `tls`."""
    login: tuple[str, str] | None = None
    refused: tuple[str, ...] = ()
    answers: dict[str, str] = field(default_factory=dict)
    """Instead of the usual ones, by command; `close` hangs up."""
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """As `plain COMMAND` or `tls COMMAND`."""


class _MailServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    box: Mailbox

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what some tests are about."""


class _Conversation(socketserver.StreamRequestHandler):
    server: _MailServer

    def handle(self) -> None:
        box = self.server.box
        self.encrypted, self.known, self.to = False, box.login is None, []
        if box.implicit:
            self._encrypt()
        self._say("220 mailbox")
        while line := self.rfile.readline():
            words = line.decode().split()
            command = words[0].upper()
            box.commands.append(f"{'tls' if self.encrypted else 'plain'} {command}")
            answer = box.answers.get(command) or self._answer(command, words[1:], line.decode())
            if answer == "close":
                return
            self._say(answer)
            if command == "STARTTLS" and answer.startswith("220"):
                self._encrypt()
            if command == "QUIT":
                return

    def _answer(self, command: str, words: list[str], line: str) -> str:
        box = self.server.box
        match command:
            case "EHLO":
                offered = ["250-mailbox", *(["250-STARTTLS"] if box.tls and not self.encrypted else [])]
                return "\r\n".join([*offered, *(["250-AUTH PLAIN"] if box.login else []), "250 8BITMIME"])
            case "STARTTLS" if box.tls and not self.encrypted:
                return "220 go on"
            case "AUTH" if words[0] == "PLAIN":
                self.known = tuple(b64decode(words[1]).decode().split("\0")[1:]) == box.login
                return "235 welcome" if self.known else "535 no such user or password"
            case "MAIL" | "RSET":
                self.to = []
                return "250 ok" if self.known else "530 log in first"
            case "RCPT":
                name = line.partition("<")[2].partition(">")[0]
                if name in box.refused:
                    return "550 nobody here"
                self.to.append(name)
                return "250 ok"
            case "DATA":
                self._say("354 go on")
                self._take()
                return "250 taken"
            case "QUIT":
                return "221 bye"
        return "502 what?"

    def _take(self) -> None:
        body = b""
        while (line := self.rfile.readline()) != b".\r\n":
            body += line[1:] if line.startswith(b".") else line
        message = message_from_bytes(body, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.server.box.messages.append(message)
        self.server.box.recipients.append(self.to)

    def _encrypt(self) -> None:
        assert self.server.box.tls
        self.connection = self.server.box.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.encrypted = True

    def _say(self, text: str) -> None:
        with suppress(OSError):
            self.wfile.write(text.encode() + b"\r\n")


@contextmanager
def mailbox(tls: ssl.SSLContext | None = None, *, implicit: bool = False) -> Iterator[Mailbox]:
    with _MailServer(("127.0.0.1", 0), _Conversation) as server:
        server.box = Mailbox(server.server_address[1], tls, implicit)
        with _served(server):
            yield server.box


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
