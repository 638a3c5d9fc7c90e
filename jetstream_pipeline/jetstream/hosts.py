"""Which hosts there are, and how an address is written. Nothing is contacted here."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from jetstream_pipeline.errors import InvalidInput

SHORT_NAMES = {
    "us-east-1": "jetstream1.us-east.bsky.network",
    "us-east-2": "jetstream2.us-east.bsky.network",
    "us-west-1": "jetstream1.us-west.bsky.network",
    "us-west-2": "jetstream2.us-west.bsky.network",
    "us-east": "jetstream.us-east.bsky.network",
    "us-west": "jetstream.us-west.bsky.network",
}
"""The public instances, as of August 2026: four that answer v1 only, then two that answer v2 too."""

PUBLIC_HOSTS = tuple(SHORT_NAMES.values())

_PORTS = {"ws": 80, "wss": 443}


@dataclass(frozen=True)
class Host:
    """A Jetstream server: the name that is kept with its events, and the address of its websockets."""

    name: str
    address: str

    @classmethod
    def parse(cls, text: str) -> Host:
        """A short name (`us-east-1`), a host name (reached by wss), or a `ws://`/`wss://` address."""
        address = SHORT_NAMES.get(text.strip(), text.strip())
        if "://" not in address:
            address = f"wss://{address}"
        try:
            parts = urlsplit(address)
            port = parts.port
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise InvalidInput(f"{text!r} is not a host: {error}") from None
        if "@" in parts.netloc:
            raise InvalidInput("a host's address takes no user or password; write ws://HOST:PORT or wss://HOST")
        plain = not (parts.path.strip("/") or parts.query or parts.fragment)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or not plain or any(c.isspace() for c in address):
            raise InvalidInput(
                f"{text!r} is not a host; write a short name (us-east-1), a host name, ws://HOST:PORT or wss://HOST"
            )
        host = parts.hostname.rstrip(".")
        name = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
        return cls(name, f"{parts.scheme}://{parts.netloc}")

    @property
    def web_address(self) -> str:
        """The same server's address for plain requests: `http(s)://HOST[:PORT]`."""
        return self.address.replace("ws", "http", 1)
