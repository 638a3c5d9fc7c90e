"""How handles and DIDs are written, by the atproto specification. Whether they exist is not known here."""

from __future__ import annotations

import re

from jetstream_pipeline.errors import InvalidInput

_MAX_CHARS = 253
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOSTNAME = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_PLC = re.compile(r"did:plc:[a-z2-7]{24}")
_WEB = "did:web:"
_RESERVED = frozenset({"alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"})
_DEVELOPMENT = "test"


def is_hostname(text: str) -> bool:
    """Whether a lower-case name has the form of a host with a domain; no address in digits has."""
    return len(text) <= _MAX_CHARS and bool(_HOSTNAME.fullmatch(text))


def parse_handle(text: str, *, development: bool = False) -> str:
    """The handle as the network writes it, from what a person typed. `development` allows `.test`."""
    handle = text.strip().removeprefix("@")
    if not handle.isascii():
        raise InvalidInput(f"{text!a} is not a handle: write names beyond ASCII in punycode (xn--…)")
    handle = handle.lower()
    if not is_hostname(handle):
        raise InvalidInput(f"{text!a} is not a handle; write a domain name as in alice.bsky.social")
    if not _is_usable(handle, development):
        raise InvalidInput(f"{text!a} is not a handle: .{_tld(handle)} is reserved, no account can have it")
    return handle


def is_did(text: str, *, development: bool = False) -> bool:
    """Whether this is a DID that an account can have: did:plc, or did:web of a whole host."""
    host = web_host(text)
    if host is not None:
        return is_hostname(host) and _is_usable(host, development)
    return bool(_PLC.fullmatch(text))


def web_host(did: str) -> str | None:
    """The host that holds a did:web's document."""
    return did.removeprefix(_WEB) if did.startswith(_WEB) else None


def _is_usable(name: str, development: bool) -> bool:
    return _tld(name) not in _RESERVED and (development or _tld(name) != _DEVELOPMENT)


def _tld(name: str) -> str:
    return name.rpartition(".")[2]
