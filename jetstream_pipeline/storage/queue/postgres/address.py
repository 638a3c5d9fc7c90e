"""Which database holds the queues, and how it is spoken of without its password."""

from __future__ import annotations

import os
import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jetstream_pipeline.errors import InvalidInput

_HOSTS = re.compile(r"[\w.:,/\\\[\]%~-]*", re.ASCII)
_PORTS = re.compile(r"[0-9,]*", re.ASCII)
_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_DEFAULTS = {
    "fallback_application_name": "jetstream_pipeline",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""A server that says nothing more is given up after a minute. What the address says goes before, as does `PG*`."""
_VARIABLES = {"connect_timeout": "PGCONNECT_TIMEOUT"}


class Address:
    """A `postgresql://` address. What it leaves out libpq finds as ever: `PGHOST`, `PGPASSWORD`, `~/.pgpass`, services.

    InvalidInput, without a word of it, where it is none.
    """

    def __init__(self, url: str) -> None:
        try:
            parts: dict[str, Any] = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            parts = {"port": url}
        host, port = str(parts.get("host", "")), str(parts.get("port", ""))
        if not _HOSTS.fullmatch(host) or not _PORTS.fullmatch(port):
            raise InvalidInput(
                "JETSTREAM_QUEUES is no address that PostgreSQL's library understands: write "
                "postgresql://USER@HOST:PORT/DATABASE, with what is special in a password percent-encoded, or the "
                "password in PGPASSWORD or ~/.pgpass"
            )
        defaults = {name: value for name, value in _DEFAULTS.items() if _VARIABLES.get(name, "") not in os.environ}
        self.conninfo = make_conninfo(**defaults | parts | {"client_encoding": "UTF8"})
        """With the password, where the address has one."""
        self._secrets = [str(parts[name]) for name in _SECRETS if parts.get(name)]
        self._secrets += [os.environ["PGPASSWORD"]] if os.environ.get("PGPASSWORD") else []
        host = host or os.environ.get("PGHOST", "")
        database = str(parts.get("dbname", "") or os.environ.get("PGDATABASE", ""))
        service = parts.get("service") or os.environ.get("PGSERVICE")
        named = "/".join(part for part in (f"{host}:{port}" if port else host, database) if part)
        self._shown = named or (f"the service {service}" if service else "its default place")

    def __str__(self) -> str:
        return f"PostgreSQL at {self._shown}"

    def hidden(self, text: str) -> str:
        """What the library or the server says, in one line and without a secret."""
        line = " ".join(text.split())
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line
