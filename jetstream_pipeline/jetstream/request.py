"""How a subscription is asked for on either wire: the address, and the first message where a URL cannot hold it all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlencode

from jetstream_pipeline.events.schema import COMMIT
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.compression import Dictionary
from jetstream_pipeline.jetstream.errors import JetstreamError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription

MAX_URL_BYTES = 7_500
"""Servers and proxies refuse longer ones (8 KiB is usual): some 170 DIDs. On v1 more are sent as the first message; on
v2 a client must send none."""

_V2_PATH = "/xrpc/network.bsky.jetstream.subscribeEvents"
_V2_SUBPROTOCOL = "xrpc.v1.json"


class TooMuchForV2(JetstreamError):
    """Only the v1 wire takes so long a filter."""


@dataclass(frozen=True)
class Request:
    """A websocket to open: its URL, the subprotocol that the host must agree to, the message to send first."""

    url: str
    subprotocol: str | None = None
    hello: str | None = None


def request(
    host: Host,
    wire: Wire,
    subscription: Subscription,
    cursor: int | None,
    *,
    dictionary: Dictionary | None = None,
    max_message_bytes: int = 0,
) -> Request:
    """Ask `host` for a subscription from a cursor (unix microseconds, or its sequence number); None: the live tip.

    TooMuchForV2 where the v2 wire, which takes no message from a client, is asked for more than a URL holds.
    """
    query = [] if cursor is None else [("cursor", str(cursor))]
    if max_message_bytes:
        query.append(("maxMessageSizeBytes", str(max_message_bytes)))
    if wire is Wire.V2:
        return _v2(host, subscription, query, dictionary)
    return _v1(host, subscription, query, dictionary, max_message_bytes)


def _v1(
    host: Host,
    subscription: Subscription,
    query: list[tuple[str, str]],
    dictionary: Dictionary | None,
    max_message_bytes: int,
) -> Request:
    if dictionary:
        query.append(("compress", "true"))
    filters = [("wantedCollections", name) for name in subscription.collections]
    filters += [("wantedDids", did) for did in subscription.dids]
    url = _url(host, "/subscribe", query + filters)
    if len(url) <= MAX_URL_BYTES:
        return Request(url)
    options = {
        "wantedCollections": subscription.collections,
        "wantedDids": subscription.dids,
        "maxMessageSizeBytes": max_message_bytes,
    }
    hello = json.dumps({"type": "options_update", "payload": options})
    return Request(_url(host, "/subscribe", [*query, ("requireHello", "true")]), hello=hello)


def _v2(host: Host, subscription: Subscription, query: list[tuple[str, str]], dictionary: Dictionary | None) -> Request:
    kinds = subscription.wanted_kinds
    query += [("kinds", kind) for kind in kinds]
    if COMMIT in kinds:
        query += [("collections", name) for name in subscription.collections]
    query += [("dids", did) for did in subscription.dids]
    if dictionary:
        query.append(("zstdDictionary", str(dictionary.number)))
    url = _url(host, _V2_PATH, query)
    if len(url) > MAX_URL_BYTES:
        raise TooMuchForV2(f"{len(subscription.dids)} DIDs are more than a URL holds, and than v2 takes")
    return Request(url, subprotocol=_V2_SUBPROTOCOL)


def _url(host: Host, path: str, query: list[tuple[str, str]]) -> str:
    return f"{host.address}{path}?{urlencode(query, safe=':*')}"
