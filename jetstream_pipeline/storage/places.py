"""Where data may lie: below a path of this machine, or below an address in an object store. What is done there is
`files`' for both, and `objects`' for what only an object store needs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from jetstream_pipeline.errors import InvalidInput

if TYPE_CHECKING:
    from upath import UPath

AnyPath: TypeAlias = "Path | UPath"
"""A path of this machine, which is a `pathlib.Path`, or one in an object store, which is none."""


@dataclass(frozen=True)
class Store:
    """A kind of object store: the extra that brings its library, that library, and where its credentials come from."""

    extra: str
    module: str
    credentials: str


_S3 = Store("s3", "s3fs", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role")
_GCS = Store("gcs", "gcsfs", "set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account")
_AZURE = Store("azure", "adlfs", "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or their siblings")
STORES = {"s3": _S3, "gs": _GCS, "gcs": _GCS, "abfs": _AZURE, "abfss": _AZURE, "az": _AZURE}
"""By the protocol of their addresses."""

_ADDRESS = re.compile(r"^([a-z0-9]+)://([A-Za-z0-9][A-Za-z0-9._@-]*)((?:/[A-Za-z0-9._-]+)*)/?\Z")
"""What needs no quoting in an address, nor in DuckDB's patterns."""


def parse_place(text: str) -> AnyPath:
    """A path, or an address as s3://bucket/prefix. InvalidInput where it is none, or the library for it is missing."""
    check_place(text)
    if "://" not in text:
        return Path(text).expanduser()
    store = STORES[text.partition("://")[0]]
    try:
        import_module(store.module)
        from upath import UPath
    except ImportError as error:
        raise InvalidInput(
            f"{text} needs {error.name}, which is not installed: pip install 'jetstream_pipeline[{store.extra}]'"
        ) from None
    # What others have put there since is to be seen at once.
    return UPath(text.rstrip("/"), use_listings_cache=False, **_options(store))


def _options(store: Store) -> dict[str, Any]:
    """What the library does not see for itself: AWS's own kits go by AWS_REGION, it goes by AWS_DEFAULT_REGION only."""
    region = os.environ.get("AWS_REGION")
    return {"client_kwargs": {"region_name": region}} if store is _S3 and region else {}


def check_place(text: str) -> None:
    """InvalidInput where `parse_place` could not take it, whatever is installed."""
    if "://" not in text:
        return
    protocol = text.partition("://")[0]
    if protocol not in STORES:
        raise InvalidInput(f"{protocol}:// is no object store that is known; use {', '.join(STORES)}, or a path")
    if not _ADDRESS.match(text):
        raise InvalidInput(
            f"write {protocol}://BUCKET/PREFIX with letters, digits and . _ - only; credentials come from the "
            "environment, never from an address"
        )


def shown(path: AnyPath) -> str:
    """A path as anybody can use it: absolute, or with its protocol."""
    return str(path.resolve()) if isinstance(path, Path) else str(path)
