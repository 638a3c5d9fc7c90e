"""What a request is answered: a stream, a dictionary, a greeting, or a refusal.

What may be asked of a stream belongs to `subscription` and `subscription_v2`; the stream to `connection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from jetstream_pipeline.simulator import faults, subscription_v2
from jetstream_pipeline.simulator.answers import BINARY, PLAIN, refusal, respond
from jetstream_pipeline.simulator.encoding import Wire
from jetstream_pipeline.simulator.faults import Close, Fault, Refuse
from jetstream_pipeline.simulator.host import Host
from jetstream_pipeline.simulator.subscription import FIRST_TIME_CURSOR, PATH, Refused, Subscription, read_subscription
from jetstream_pipeline.simulator.subscription_v2 import SUBPROTOCOL, XrpcRefused, read_subscription_v2

_DICTIONARY_PATH = "/xrpc/network.bsky.jetstream.getZstdDictionary"
_GREETING = "This is a simulated Jetstream. Subscribe with a websocket at /subscribe.\n"
WARMING_UP = "service not ready: cursor replay warming up"


@dataclass(frozen=True)
class Admission:
    """A subscription that begins: its number among all of the server's, and its fault."""

    subscription: Subscription
    number: int
    fault: Fault | None


async def answer(
    host: Host, protocol: ServerProtocol, request: Request
) -> tuple[Response, Admission | None] | tuple[None, None]:
    """The response to a request, and whom it admits; nothing at all where a fault wants it so."""
    path, _, query = request.path.partition("?")
    try:
        if path == "/":
            return respond(200, _GREETING.encode(), PLAIN), None
        if path == _DICTIONARY_PATH and host.speaks_v2:
            return await _dictionary(host, query), None
        subscription = await _subscription(host, path, query, request.headers)
    except Refused as refused:
        return respond(refused.status, refused.text.encode(), refused.content_type), None
    _negotiate(protocol, subscription, request.headers)
    response = protocol.accept(request)
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        return response, None
    number, fault = host.faults.next_subscription()
    match fault:
        case Refuse():
            return refusal(fault), None
        case Close(code=faults.DROPPED):
            return None, None
    return response, Admission(subscription, number, fault)


async def _subscription(host: Host, path: str, query: str, headers: Headers) -> Subscription:
    if path == PATH:
        if host.is_warming_up:
            raise Refused(503, f"{WARMING_UP}\n")
        return read_subscription(query, headers)
    if path == subscription_v2.PATH and host.speaks_v2:
        if host.is_warming_up:
            raise XrpcRefused(503, "ServiceUnavailable", WARMING_UP)
        subscription = read_subscription_v2(query, headers, host.pages.compressions[Wire.V2].dictionary_id)
        await _refuse_what_is_too_old(host, subscription.cursor)
        return subscription
    raise Refused(404, "404 page not found\n")


async def _refuse_what_is_too_old(host: Host, cursor: int | None) -> None:
    """Only numbers: a time is raised to the look-back."""
    if cursor is None or cursor >= FIRST_TIME_CURSOR:
        return
    floor = await host.timeline.floor_seq()
    if cursor < floor:
        message = (
            f"subscribe: cursor too old: cursor {cursor} below lookback floor {floor}; re-backfill from your last seq"
        )
        raise XrpcRefused(400, "CursorTooOld", message)


def _negotiate(protocol: ServerProtocol, subscription: Subscription, headers: Headers) -> None:
    if subscription.encoding.wire is Wire.V1:
        if not subscription.encoding.compressed:
            protocol.available_extensions = [ServerPerMessageDeflateFactory()]
        return
    offered = ",".join(headers.get_all("Sec-WebSocket-Protocol")).split(",")
    if SUBPROTOCOL in map(str.strip, offered):
        protocol.available_subprotocols = [Subprotocol(SUBPROTOCOL)]


async def _dictionary(host: Host, query: str) -> Response:
    compression = host.pages.compressions[Wire.V2]
    current = compression.dictionary_id
    asked = parse_qs(query, keep_blank_values=True).get("id")
    if asked:
        try:
            number = int(asked[0])
        except ValueError:
            raise XrpcRefused(400, "InvalidRequest", "id must be an integer zstd dictionary ID") from None
        if number != current:
            message = f"no dictionary with id {number}; current dictionary id is {current}"
            raise XrpcRefused(404, "DictionaryNotFound", message)
    content = await host.pages.aside(lambda: compression.dictionary)
    headers = (
        ("ETag", f'"zstd-dict-{current}"'),
        ("Cache-Control", "public, max-age=31536000, immutable"),
        ("X-Zstd-Dictionary-Id", str(current)),
    )
    return respond(200, content, BINARY, headers)
