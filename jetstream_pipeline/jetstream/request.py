"""How a subscription is asked for on either wire: the address, and the first message where a URL cannot hold it all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlencode

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.schema import COMMIT
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.compression import Dictionary
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription

MAX_DIDS_IN_URL = 200
"""More fill a URL. On v1 they are sent as the first message; on v2 a client must send none."""

_V2_PATH = "/xrpc/network.bsky.jetstream.subscribeEvents"
_V2_SUBPROTOCOL = "xrpc.v1.json"


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

    InvalidInput where the v2 wire, which takes no message from a client, is asked for more DIDs than a URL holds.
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
    hello = None
    if len(subscription.dids) > MAX_DIDS_IN_URL:
        query.append(("requireHello", "true"))
        options = {
            "wantedCollections": subscription.collections,
            "wantedDids": subscription.dids,
            "maxMessageSizeBytes": max_message_bytes,
        }
        hello = json.dumps({"type": "options_update", "payload": options})
    else:
        query += [("wantedCollections", name) for name in subscription.collections]
        query += [("wantedDids", did) for did in subscription.dids]
    return Request(f"{host.address}/subscribe?{urlencode(query)}", hello=hello)


def _v2(host: Host, subscription: Subscription, query: list[tuple[str, str]], dictionary: Dictionary | None) -> Request:
    if len(subscription.dids) > MAX_DIDS_IN_URL:
        raise InvalidInput(
            f"the v2 wire takes {MAX_DIDS_IN_URL} DIDs at most; leave the wire to be chosen, or ask for v1"
        )
    kinds = subscription.wanted_kinds
    query += [("kinds", kind) for kind in kinds]
    if COMMIT in kinds:
        query += [("collections", name) for name in subscription.collections]
    query += [("dids", did) for did in subscription.dids]
    if dictionary:
        query.append(("zstdDictionary", str(dictionary.number)))
    return Request(f"{host.address}{_V2_PATH}?{urlencode(query)}", subprotocol=_V2_SUBPROTOCOL)
