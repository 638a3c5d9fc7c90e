"""What JETSTREAM_ICEBERG may say.

`sqlite` is a file in the data directory; an address (postgresql+psycopg://…, mysql://…, sqlite:///…) is a database's,
one with http(s):// a REST catalogue's; any other word names a catalogue of pyiceberg's own configuration.
"""

from __future__ import annotations

import re

from jetstream_pipeline.errors import InvalidInput

SQLITE = "sqlite"
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*\Z")


def check_catalogue(setting: str) -> str:
    """The setting as it may stand; InvalidInput otherwise."""
    if setting and not (_NAME.match(setting) or _is_address(setting)):
        raise InvalidInput(
            "write sqlite, a database's or a REST catalogue's address (postgresql+psycopg://…, https://…), or the name "
            "of a catalogue in pyiceberg's configuration"
        )
    return setting


def _is_address(setting: str) -> bool:
    if setting.startswith(("http://", "https://")):
        return True
    # Takes a moment to import, and most have no catalogue.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(setting).get_dialect()
    except (SQLAlchemyError, ValueError):
        return False
    return True
