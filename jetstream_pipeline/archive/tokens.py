"""The token that hosted archives want to see: what it is made of, and whom it is sent to. No error here shows it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.hosts import Host

_TOKEN = re.compile(r"[!-~]*")


def check_token(text: str) -> str:
    """The token given (empty: none), or InvalidInput for one that no header can carry."""
    if not _TOKEN.fullmatch(text):
        raise InvalidInput("a token is made of visible ASCII characters, without spaces")
    return text


def is_trusted(host: Host) -> bool:
    """Whether nobody on the way to the host can read what is sent."""
    return not is_plain(host) or is_loopback(host)


def is_plain(host: Host) -> bool:
    """Whether the host is reached without TLS."""
    return host.web_address.startswith("http:")


def is_loopback(host: Host) -> bool:
    """Whether the host is on this machine."""
    name = urlsplit(host.address).hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
