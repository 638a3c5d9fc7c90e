"""A request to subscribe, read from its query and headers, or refused in the words of the real server.

Here is what both wires share, the first wire's dialect, and its options updates; the second one's dialect is
`subscription_v2`. Nothing here talks to a socket.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec
from websockets.datastructures import Headers

from jetstream_pipeline.simulator.encoding import Encoding, Wire
from jetstream_pipeline.simulator.filters import Filter, InvalidOptions, parse_size_limit

PATH = "/subscribe"
FIRST_TIME_CURSOR = 10**15
"""From here on a cursor is unix microseconds, below it a sequence number."""

_ONE_SCHEME = (
    "choose one compression scheme: custom zstd (compress=true / Socket-Encoding: zstd) or RFC 7692 "
    "permessage-deflate, not both"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_LARGEST_CURSOR = 2**63 - 1


class Refused(Exception):
    """The request gets an HTTP answer instead of a stream."""

    def __init__(self, status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.content_type = content_type


class InvalidCursor(ValueError):
    """A cursor that no server takes; the text is what the subscriber is told."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"subscribe: invalid cursor: {reason}")


class Unreadable(Exception):
    """The subscriber sent something that is no message of the protocol."""


@dataclass(frozen=True)
class Subscription:
    filter: Filter
    cursor: int | None
    encoding: Encoding
    require_hello: bool = False


class _Update(msgspec.Struct):
    wanted_collections: list[str] | None = msgspec.field(default=None, name="wantedCollections")
    wanted_dids: list[str] | None = msgspec.field(default=None, name="wantedDids")
    max_message_size_bytes: int | None = msgspec.field(default=None, name="maxMessageSizeBytes")


class _Envelope(msgspec.Struct):
    type: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"")


def read_query(query: str) -> dict[str, list[str]]:
    """Raises InvalidOptions."""
    bad_escape = _BAD_ESCAPE.search(query)
    if bad_escape:
        raise InvalidOptions(f"invalid URL escape {quoted(bad_escape[0])}")
    return parse_qs(query, keep_blank_values=True)


def read_cursor(text: str) -> int | None:
    """Raises InvalidCursor."""
    if not text:
        return None
    if not _WHOLE_NUMBER.fullmatch(text) or len(text) > 20 or abs(int(text)) > _LARGEST_CURSOR:
        raise InvalidCursor(quoted(text))
    cursor = int(text)
    if cursor < 0:
        raise InvalidCursor(f"negative value {cursor}")
    return cursor


def asks_for_v1_compression(values: dict[str, list[str]], headers: Headers) -> bool:
    return values.get("compress", [""])[0] == "true" or "zstd" in _all(headers, "Socket-Encoding")


def read_subscription(query: str, headers: Headers) -> Subscription:
    """Raises Refused."""
    try:
        return _read(read_query(query), headers)
    except (InvalidOptions, InvalidCursor) as error:
        raise Refused(400, f"{error}\n") from error


def _read(values: dict[str, list[str]], headers: Headers) -> Subscription:
    def first(name: str) -> str:
        return values.get(name, [""])[0]

    compressed = asks_for_v1_compression(values, headers)
    if compressed and "permessage-deflate" in _all(headers, "Sec-WebSocket-Extensions"):
        raise Refused(400, f"{_ONE_SCHEME}\n")
    wanted = Filter.parse(
        values.get("wantedCollections", []),
        values.get("wantedDids", []),
        parse_size_limit(first("maxMessageSizeBytes")),
    )
    encoding = Encoding(Wire.V1, compressed)
    return Subscription(wanted, read_cursor(first("cursor")), encoding, first("requireHello") == "true")


def read_update(message: bytes) -> Filter | None:
    """The filter that a subscriber's message asks for; None for a message of an unknown type.

    Raises Unreadable or InvalidOptions."""
    try:
        envelope = msgspec.json.decode(message, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("bad SubscriberSourcedMessage envelope") from error
    if envelope.type != "options_update":
        return None
    try:
        update = msgspec.json.decode(bytes(envelope.payload), type=_Update | None) or _Update()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("bad options_update payload") from error
    return Filter.parse(update.wanted_collections or [], update.wanted_dids or [], update.max_message_size_bytes or 0)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _all(headers: Headers, name: str) -> str:
    return ",".join(headers.get_all(name))
