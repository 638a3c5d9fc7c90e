"""The demonstration's UI: which port it has, when it answers, and how long it stays. It is on loopback only."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import NoReturn

from jetstream_pipeline.demo.backfill import LOOPBACK, Home
from jetstream_pipeline.demo.programs import DemoError, Program
from jetstream_pipeline.errors import InvalidInput

_POLL_SEC = 0.5
_STARTING_SEC = 120


def free_port(port: int) -> int:
    """This port, or any free one for 0; InvalidInput where it cannot be listened on."""
    try:
        with socket.create_server((LOOPBACK, port)) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        reason = error.strerror or error
        raise InvalidInput(f"cannot listen on port {port} of {LOOPBACK}: {reason}; choose another --port") from None


@contextmanager
def served(home: Home, port: int) -> Iterator[Program]:
    """Dagster's web server, from when it answers; DemoError where it never does."""
    until = time.monotonic() + _STARTING_SEC
    with home.web_server(port) as server:
        while not _answers(port):
            server.check()
            if time.monotonic() > until:
                raise DemoError(f"Dagster's UI does not answer after {_STARTING_SEC} s; see {server.log}")
            time.sleep(_POLL_SEC)
        yield server


def watch(programs: Sequence[Program]) -> NoReturn:
    """Stay until one of the programs ends (DemoError), or a signal."""
    while True:
        for program in programs:
            program.check()
        time.sleep(_POLL_SEC)


def _answers(port: int) -> bool:
    connection = HTTPConnection(LOOPBACK, port, timeout=_STARTING_SEC)
    try:
        connection.request("GET", "/server_info")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
