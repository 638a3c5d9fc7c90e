"""A request to subscribe, read from its path and headers, or refused in the words of the real server.

Also the options updates that follow later. Nothing here talks to a socket.
"""

import json
import re
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec
from websockets.datastructures import Headers

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

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text + "\n"


class Unreadable(Exception):
    """The subscriber sent something that is no message of the protocol."""


@dataclass(frozen=True)
class Subscription:
    filter: Filter
    cursor: int | None
    compressed: bool
    require_hello: bool


class _Update(msgspec.Struct):
    wanted_collections: list[str] | None = msgspec.field(default=None, name="wantedCollections")
    wanted_dids: list[str] | None = msgspec.field(default=None, name="wantedDids")
    max_message_size_bytes: int | None = msgspec.field(default=None, name="maxMessageSizeBytes")


class _Envelope(msgspec.Struct):
    type: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"")


def read_subscription(query: str, headers: Headers) -> Subscription:
    """Raises Refused."""
    bad_escape = _BAD_ESCAPE.search(query)
    if bad_escape:
        raise Refused(400, f"subscribe: invalid options: invalid URL escape {_quoted(bad_escape[0])}")
    values = parse_qs(query, keep_blank_values=True)

    def first(name: str) -> str:
        return values.get(name, [""])[0]

    compressed = first("compress") == "true" or "zstd" in _all(headers, "Socket-Encoding")
    if compressed and "permessage-deflate" in _all(headers, "Sec-WebSocket-Extensions"):
        raise Refused(400, _ONE_SCHEME)
    try:
        wanted = Filter.parse(
            values.get("wantedCollections", []),
            values.get("wantedDids", []),
            parse_size_limit(first("maxMessageSizeBytes")),
        )
    except InvalidOptions as error:
        raise Refused(400, str(error)) from error
    return Subscription(wanted, _cursor(first("cursor")), compressed, first("requireHello") == "true")


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


def _cursor(text: str) -> int | None:
    if not text:
        return None
    if not _WHOLE_NUMBER.fullmatch(text) or abs(int(text)) > _LARGEST_CURSOR:
        raise Refused(400, f"subscribe: invalid cursor: {_quoted(text)}")
    cursor = int(text)
    if cursor < 0:
        raise Refused(400, f"subscribe: invalid cursor: negative value {cursor}")
    return cursor


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _all(headers: Headers, name: str) -> str:
    return ",".join(headers.get_all(name))
