"""Hosts that do what a script says, for what a well-behaved simulated one never does."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from jetstream_pipeline.jetstream.hosts import Host

Script = Callable[[ServerConnection, int, int], None]
"""Called with each connection, its number from 0, and the cursor that it asked for (unix microseconds)."""


def identity(time_us: int, seq: int, did: str = "did:plc:a") -> str:
    return json.dumps({"did": did, "time_us": time_us, "kind": "identity", "identity": {"did": did, "seq": seq}})


@contextmanager
def serving(
    script: Script, refusal: HTTPStatus | None = None, elsewhere: HTTPStatus | None = HTTPStatus.NOT_FOUND
) -> Iterator[Host]:
    """An old host on loopback, without v2; after its script a connection stays open and silent. `refusal` answers every
    handshake; `elsewhere` those of other paths than v1's, where None takes them all the same."""
    connections = iter(range(1_000_000))

    def handle(connection: ServerConnection) -> None:
        assert connection.request
        cursor = int(parse_qs(urlsplit(connection.request.path).query)["cursor"][0])
        script(connection, next(connections), cursor)
        connection.recv()

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        if elsewhere and not request.path.startswith("/subscribe"):
            return connection.respond(elsewhere, "<html>what is this?</html>")
        return connection.respond(refusal, "not for you") if refusal else None

    with serve(handle, "127.0.0.1", 0, process_request=refuse, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Host.parse(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        server.shutdown()
        thread.join()


def sending(messages: list[str]) -> Script:
    """Send the messages to whoever connects."""

    def script(connection: ServerConnection, _: int, __: int) -> None:
        for message in messages:
            connection.send(message)

    return script


def abort(connection: ServerConnection) -> None:
    """End as a power cut would: no close frame."""
    connection.socket.close()
