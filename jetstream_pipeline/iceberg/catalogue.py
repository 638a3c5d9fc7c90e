"""Opening the Iceberg catalogue that JETSTREAM_ICEBERG names. What its tables hold is `sync`'s."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.iceberg.errors import CatalogueError
from jetstream_pipeline.iceberg.places import reading
from jetstream_pipeline.iceberg.setting import SQLITE
from jetstream_pipeline.storage.files import make_directory
from jetstream_pipeline.storage.layout import DataDirectory

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

_CATALOGUE = "jetstream"
"""What a catalogue is called that has no other name: rows of a database's tables are told apart by it."""
_PATIENCE_SEC = 30
"""How long a SQLite file may be held by another process."""
_OPENINGS = 3
"""Two processes that make a database's tables at once are in each other's way, once."""


@contextmanager
def opened(setting: SecretStr, data: DataDirectory) -> Iterator[Catalog]:
    """The catalogue. InvalidInput where it cannot be meant, or where pyiceberg is not installed; CatalogueError where
    it cannot be reached, or where the body's dealings with it fail."""
    if find_spec("pyiceberg") is None:
        raise InvalidInput("tables in Iceberg want an extra: pip install 'jetstream_pipeline[iceberg]'")
    with _told(setting, data), closing(_open(setting.get_secret_value(), data)) as catalogue:
        yield catalogue


def _open(setting: str, data: DataDirectory) -> Catalog:
    from pyiceberg.catalog import load_catalog

    name, properties = _meant(setting, data)
    properties |= reading(data.lake)
    for _ in range(_OPENINGS - 1):
        try:
            return load_catalog(name, **properties)
        except Exception as error:
            if "exist" not in str(error).lower():
                raise
    return load_catalog(name, **properties)


def _meant(setting: str, data: DataDirectory) -> tuple[str, dict[str, str]]:
    """The catalogue's name and properties, as pyiceberg takes them."""
    if setting == SQLITE:
        make_directory(data.root)
        return _CATALOGUE, {"type": "sql", "uri": f"sqlite:///{_file(data)}?timeout={_PATIENCE_SEC}"}
    if setting.startswith(("http://", "https://")):
        return _CATALOGUE, {"type": "rest", "uri": setting}
    if "://" in setting:
        return _CATALOGUE, {"type": "sql", "uri": setting}
    return setting, {}


def _file(data: DataDirectory) -> Path:
    return data.root.resolve() / "iceberg.db"


@contextmanager
def _told(setting: SecretStr, data: DataDirectory) -> Iterator[None]:
    """Turn what a catalogue says into one line that names it, without its password."""
    try:
        yield
    except PipelineError:
        raise
    except ImportError as error:
        raise InvalidInput(
            f"the Iceberg catalogue {shown(setting.get_secret_value(), data)} needs {error.name}, which is not "
            "installed; PostgreSQL's is in an extra: pip install 'jetstream_pipeline[postgres]'"
        ) from None
    # The errors of pyiceberg, of databases' drivers, of HTTP and of object stores have no family in common.
    except Exception as error:
        secret = setting.get_secret_value()
        # What a database's driver says, without what SQLAlchemy adds to it.
        text = " ".join(str(getattr(error, "orig", None) or error).split()) or type(error).__name__
        for password in _secrets(secret):
            text = text.replace(password, "…")
        raise CatalogueError(
            f"the Iceberg catalogue {shown(secret, data)} cannot be used: {text}; the lake has it all; mend this and "
            "run jetstream-pipeline iceberg sync"
        ) from error


def shown(setting: str, data: DataDirectory) -> str:
    """A catalogue as it may be printed: an address without user, password and options."""
    if setting == SQLITE:
        return str(_file(data))
    if "://" not in setting:
        return setting
    parts = urlsplit(setting)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _secrets(setting: str) -> list[str]:
    if "://" not in setting:
        return []
    parts = urlsplit(setting)
    password = parts.netloc.rpartition("@")[0].partition(":")[2]
    return [text for text in (setting, password, unquote(password), parts.query) if text]
