"""The Bluesky network's public events as hourly tables that are proven complete or say that they are not."""

import os as _os
import sys as _sys
from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetstream_pipeline.connector.connector import JetstreamConnector
    from jetstream_pipeline.events.record import JetstreamRecord
    from jetstream_pipeline.storage.queue.queue import Queue

__version__ = _version("jetstream_pipeline")
__all__ = ["JetstreamConnector", "JetstreamRecord", "Queue"]

# Arrow's usual allocator keeps hold of a quarter more than is in use.
_os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc" if _sys.platform == "linux" else "system")

_HOMES = {
    "JetstreamConnector": "jetstream_pipeline.connector.connector",
    "JetstreamRecord": "jetstream_pipeline.events.record",
    "Queue": "jetstream_pipeline.storage.queue.queue",
}


def __getattr__(name: str) -> object:
    """Load a public class when it is asked for, so that no part of the package pays for the others."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(_HOMES[name]), name)
