"""The second wire's dialect: its parameters, and its refusals in the words of the real server.

What both wires share is `subscription`. Nothing here talks to a socket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from websockets.datastructures import Headers

from jetstream_pipeline.simulator.encoding import Encoding, Wire
from jetstream_pipeline.simulator.event import MESSAGE_TYPE
from jetstream_pipeline.simulator.filters import MAX_COLLECTIONS, MAX_DIDS, Filter, InvalidOptions, is_nsid
from jetstream_pipeline.simulator.subscription import (
    InvalidCursor,
    Refused,
    Subscription,
    asks_for_v1_compression,
    quoted,
    read_cursor,
    read_query,
)

PATH = f"/xrpc/{MESSAGE_TYPE}"
SUBPROTOCOL = "xrpc.v1.json"
KINDS = ("commit", "identity", "account", "sync")
_LEGACY = {
    "wantedDids": "wantedDids is the legacy /subscribe parameter; use dids",
    "wantedCollections": "wantedCollections is the legacy /subscribe parameter; use collections",
    "requireHello": "requireHello is not supported on this endpoint; it is server-push only "
    "(subscriber-sourced messages were removed)",
}
_OTHER_COMPRESSION = (
    "compress=true / Socket-Encoding: zstd is the /subscribe (v1) opt-in; this endpoint uses zstdDictionary=<id> "
    "with the dictionary from getZstdDictionary"
)
_UNSIGNED = re.compile(r"[0-9]+", re.ASCII)
_LARGEST_UNSIGNED = 2**32 - 1
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class XrpcRefused(Refused):
    """A refusal with a name that programs can read."""

    def __init__(self, status: int, error: str, message: str) -> None:
        body = json.dumps({"error": error, "message": message}, ensure_ascii=False, separators=(",", ":"))
        for character, escape in _ESCAPES.items():
            body = body.replace(character, escape)
        super().__init__(status, body, "application/json")


def read_subscription_v2(query: str, headers: Headers, dictionary_id: int) -> Subscription:
    """`dictionary_id` is the one that is current. Raises Refused."""
    try:
        values = read_query(query)
        compressed = _reads_compressed(values, headers, dictionary_id)
        wanted = _read_filter(values)
        return Subscription(wanted, read_cursor(values.get("cursor", [""])[0]), Encoding(Wire.V2, compressed))
    except (InvalidOptions, InvalidCursor) as error:
        raise XrpcRefused(400, "InvalidRequest", str(error)) from error


def _reads_compressed(values: dict[str, list[str]], headers: Headers, dictionary_id: int) -> bool:
    if asks_for_v1_compression(values, headers):
        raise XrpcRefused(400, "InvalidRequest", _OTHER_COMPRESSION)
    asked = values.get("zstdDictionary", [""])[0]
    if not asked:
        return False
    number = _unsigned(asked)
    if not number:
        raise XrpcRefused(400, "InvalidRequest", "zstdDictionary must be a positive integer zstd dictionary ID")
    if number != dictionary_id:
        message = (
            f"unknown zstd dictionary id {number}; current dictionary id is {dictionary_id} "
            "(fetch it via getZstdDictionary and reconnect)"
        )
        raise XrpcRefused(400, "UnknownZstdDictionary", message)
    return True


def _read_filter(values: dict[str, list[str]]) -> Filter:
    for name, reason in _LEGACY.items():
        if name in values:
            raise InvalidOptions(reason)
    kinds, dids, collections = (values.get(name, []) for name in ("kinds", "dids", "collections"))
    _limit("kinds", kinds, len(KINDS))
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidOptions(f"unknown kind {quoted(kind)} (valid: {', '.join(KINDS)})")
    _limit("dids", dids, MAX_DIDS)
    _limit("collections", collections, MAX_COLLECTIONS)
    for collection in collections:
        if collection.endswith(".*") and not is_nsid(f"{collection[:-2]}.x"):
            raise InvalidOptions(f"invalid collection wildcard: {collection}")
    parsed = Filter.parse(collections, dids, _size_limit(values), kinds)
    if collections and kinds and "commit" not in kinds:
        raise InvalidOptions("collections filter can never apply: kinds excludes commit")
    return parsed


def _limit(name: str, values: Sequence[str], limit: int) -> None:
    if len(values) > limit:
        raise InvalidOptions(f"too many {name} values: {len(values)} > {limit}")


def _size_limit(values: dict[str, list[str]]) -> int:
    if "maxMessageSizeBytes" not in values:
        return 0
    given = values["maxMessageSizeBytes"]
    if len(given) != 1 or not given[0]:
        raise InvalidOptions("maxMessageSizeBytes must be one unsigned 32-bit integer")
    limit = _unsigned(given[0])
    if limit is None:
        raise InvalidOptions(f"invalid maxMessageSizeBytes {quoted(given[0])}")
    return limit


def _unsigned(text: str) -> int | None:
    """An unsigned 32-bit integer, or None."""
    if not _UNSIGNED.fullmatch(text) or len(text) > 20 or int(text) > _LARGEST_UNSIGNED:
        return None
    return int(text)
