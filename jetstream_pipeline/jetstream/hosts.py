"""Which hosts there are, and how an address is written. Nothing is contacted here."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from jetstream_pipeline.errors import InvalidInput

PUBLIC_HOSTS = (
    "jetstream1.us-east.bsky.network",
    "jetstream2.us-east.bsky.network",
    "jetstream1.us-west.bsky.network",
    "jetstream2.us-west.bsky.network",
)
"""The public v1 instances, as of August 2026."""


@dataclass(frozen=True)
class Host:
    """A Jetstream server: the name that is kept with its events, and the address of its websockets."""

    name: str
    address: str

    @classmethod
    def parse(cls, text: str) -> Host:
        """A host name (`jetstream1.us-east.bsky.network`, reached by wss) or a `ws://`/`wss://` address."""
        address = text.strip()
        if "://" not in address:
            address = f"wss://{address}"
        try:
            parts = urlsplit(address)
            port = parts.port
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise InvalidInput(f"{text!r} is not a host: {error}") from None
        plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or not plain or any(c.isspace() for c in address):
            raise InvalidInput(f"{text!r} is not a host; write a host name, ws://HOST:PORT or wss://HOST[:PORT]")
        name = parts.hostname if port is None else f"{parts.hostname}:{port}"
        return cls(name, f"{parts.scheme}://{parts.netloc}")
