"""Whom the operator trusts with questions of identity: AppView, PLC directory, DNS. Nothing is contacted here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from jetstream_pipeline.errors import InvalidInput

PUBLIC_APPVIEW = "https://public.api.bsky.app"
PUBLIC_PLC_DIRECTORY = "https://plc.directory"
_DNS_PORT = 53
_ADDRESS = re.compile(r"[a-zA-Z0-9.:/_\[\]-]+")


@dataclass(frozen=True)
class Endpoints:
    """Addresses of services that may lie anywhere, also on loopback. Without `dns` it is the system's server."""

    appview: str = PUBLIC_APPVIEW
    plc: str = PUBLIC_PLC_DIRECTORY
    dns: str | None = None

    def __post_init__(self) -> None:
        check_address(self.appview)
        check_address(self.plc)
        if self.dns is not None:
            parse_server(self.dns)

    @property
    def development(self) -> bool:
        """Whether this is a network of its own on this machine, where `.test` names are as good as others."""
        host = urlsplit(self.appview).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def check_address(text: str) -> str:
    """The `http(s)://HOST[:PORT]` given, or InvalidInput."""
    parts, port = _split(text, text, "write http://HOST[:PORT] or https://HOST[:PORT]")
    plain = not (parts.path.strip("/")) and port != 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise InvalidInput(f"{text!r} is not an address; write http://HOST[:PORT] or https://HOST[:PORT]")
    return text


def parse_server(text: str) -> tuple[str, int]:
    """Host and port of a DNS server: `HOST[:PORT]`, with an IPv6 address in brackets."""
    parts, port = _split(f"//{text}", text, "write HOST or HOST:PORT")
    if not parts.hostname or parts.netloc != text or port == 0:
        raise InvalidInput(f"{text!r} is not a DNS server; write HOST or HOST:PORT")
    return parts.hostname, port or _DNS_PORT


def _split(url: str, text: str, advice: str) -> tuple[SplitResult, int | None]:
    if "@" in text:
        raise InvalidInput(f"an address with a user name or password is not taken here; {advice}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not an address ({error}); {advice}") from None
    if not _ADDRESS.fullmatch(text):
        raise InvalidInput(f"{text!r} is not an address; {advice}")
    return parts, port
