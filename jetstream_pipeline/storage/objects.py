"""What only an object store needs: its errors in one line, and asking it for what a disk is asked for.

Whether an object is there is asked of its key; listings may be late.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.storage.errors import StorageError, StoreBusy
from jetstream_pipeline.storage.places import STORES

if TYPE_CHECKING:
    from upath import UPath

_FAILURES = {
    "s3": ("botocore.exceptions:BotoCoreError", "botocore.exceptions:ClientError", "aiohttp:ClientError"),
    "gcs": (
        "gcsfs.retry:HttpError",
        "google.auth.exceptions:GoogleAuthError",
        "requests.exceptions:RequestException",
        "aiohttp:ClientError",
    ),
    "azure": ("azure.core.exceptions:AzureError", "aiohttp:ClientError"),
}
"""What the libraries raise beside OSError and ValueError."""
_WITHOUT_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "ProfileNotFound",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "DefaultCredentialsError",
    "RefreshError",
    "ClientAuthenticationError",
}
_UNREACHABLE = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ProxyConnectionError",
    "ResponseStreamingError",
    "IncompleteReadError",
    "FSTimeoutError",
    "TransportError",
    "ServiceRequestError",
    "ServiceResponseError",
}
_BUSY = {errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO)}
_REASON_CHARS = 200
_UNKNOWN = datetime.fromtimestamp(0, UTC)


@cache
def failures(protocol: str) -> tuple[type[Exception], ...]:
    """What an operation on a store may raise."""
    found: list[type[Exception]] = [OSError, ValueError]
    for place in _FAILURES[STORES[protocol].extra]:
        module, _, name = place.partition(":")
        found.append(getattr(import_module(module), name))
    return tuple(found)


@contextmanager
def told(path: UPath, doing: str) -> Iterator[None]:
    """Turn a store's refusal into one line that names the address; a secret is never in it."""
    try:
        yield
    except PipelineError:
        raise
    except failures(path.protocol) as error:
        raise _refusal(path, doing, error) from error


def _refusal(path: UPath, doing: str, error: Exception) -> StorageError:
    begin = f"cannot {doing} {path}"
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _WITHOUT_CREDENTIALS:
        return StorageError(f"{begin}: no credentials for it were found; {STORES[path.protocol].credentials}")
    if names & _UNREACHABLE or isinstance(error, ConnectionError | TimeoutError):
        return StoreBusy(f"{begin}: the store does not answer; check its address (AWS_ENDPOINT_URL) and the network")
    reason = " ".join(str(error).split())[:_REASON_CHARS] or type(error).__name__
    if isinstance(error, OSError) and error.errno in _BUSY:
        return StoreBusy(f"{begin}: {error.strerror or reason}; try again")
    if isinstance(error, PermissionError):
        return StorageError(
            f"{begin}: the store denies it ({reason}); check the credentials, and that they may list, read and write"
        )
    return StorageError(f"{begin}: {reason}; check JETSTREAM_LAKE and the store")


def info(path: UPath) -> dict[str, Any] | None:
    """What the store says of an object; None where there is none. StorageError where there is no such bucket."""
    with told(path, "read"):
        try:
            said: dict[str, Any] = path.fs.info(path.path)
        except FileNotFoundError:
            _check_bucket(path.fs, path.protocol, _bucket(path))
            return None
    return said if said["type"] == "file" else None


def content(path: UPath) -> bytes | None:
    """An object's bytes; None where there is none."""
    with told(path, "read"):
        try:
            return bytes(path.fs.cat_file(path.path))
        except FileNotFoundError:
            _check_bucket(path.fs, path.protocol, _bucket(path))
            return None


def put(source: Path, target: UPath) -> None:
    """Make a file an object: in one step, however many requests it takes."""
    with told(target, "write"):
        try:
            target.fs.put_file(str(source), target.path)
        except FileNotFoundError:
            _check_bucket(target.fs, target.protocol, _bucket(target))
            raise


def delete(path: UPath) -> None:
    """Where there is such an object."""
    with told(path, "delete"):
        try:
            path.fs.rm_file(path.path)
        except FileNotFoundError:
            return


def listed(folder: UPath, pattern: str) -> Iterator[tuple[UPath, dict[str, Any]]]:
    """The objects below a folder whose path below it matches, in order, and what the store says of them.

    One listing of all that lies below, not one for each folder.
    """
    with told(folder, "list"):
        found: dict[str, dict[str, Any]] = folder.fs.find(folder.path, detail=True)
    wanted, start = pattern.split("/"), len(folder.path) + 1
    for name in sorted(found):
        parts = name[start:].split("/")
        if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
            yield folder.joinpath(*parts), found[name]


def folders(folder: UPath) -> list[UPath]:
    """The folders in a folder, in order: each holds an object, at whatever depth."""
    with told(folder, "list"):
        try:
            entries = folder.fs.ls(folder.path, detail=True)
        except FileNotFoundError:
            _check_bucket(folder.fs, folder.protocol, _bucket(folder))
            return []
    names = (entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory")
    return [folder / name.rpartition("/")[2] for name in sorted(names)]


def first(folder: UPath, pattern: str) -> UPath | None:
    """Any object whose path below a folder matches: found without listing all that lies there."""
    step, _, rest = pattern.partition("/")
    if not rest:
        with told(folder, "list"):
            entries = folder.fs.ls(folder.path, detail=True)
        names = [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"]
        return next((folder / name for name in sorted(names) if fnmatchcase(name, step)), None)
    below = (inner for inner in folders(folder) if fnmatchcase(inner.name, step))
    return next((found for inner in below if (found := first(inner, rest))), None)


def moment(said: dict[str, Any]) -> datetime:
    """When an object was put, by the store's clock, from what the store says of it."""
    found = (said[name] for name in ("LastModified", "mtime", "last_modified") if name in said)
    return next((time for time in found if isinstance(time, datetime)), _UNKNOWN)


def moment_ns(said: dict[str, Any]) -> int:
    """The same in unix nanoseconds."""
    return int(moment(said).timestamp()) * 1_000_000_000 + moment(said).microsecond * 1000


def tag(said: dict[str, Any]) -> str:
    """What changes when an object is replaced, from what the store says of it."""
    return str(next((said[name] for name in ("ETag", "etag", "generation") if said.get(name)), moment_ns(said)))


@lru_cache
def _check_bucket(fs: Any, protocol: str, bucket: str) -> None:
    """Asked where something is not there; one that is there stays."""
    if not fs.exists(bucket):
        raise StorageError(
            f"there is no {protocol}://{bucket} that these credentials see; create it, or mend JETSTREAM_LAKE"
        )


def _bucket(path: UPath) -> str:
    return path.path.partition("/")[0]


class Reader(io.RawIOBase):
    """An object that is open for reading, range by range. Errors are told, whoever reads.

    Where the store can tell, what is read is of one and the same version, or an error.
    """

    def __init__(self, path: UPath) -> None:
        with told(path, "read"):
            try:
                self._file = path.fs.open(path.path, "rb", cache_type="none")
            except FileNotFoundError:
                _check_bucket(path.fs, path.protocol, _bucket(path))
                raise StorageError(f"cannot read {path}: there is no such object") from None
        self.path = path
        self.details: dict[str, Any] = self._file.details
        self.size: int = self._file.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int = -1) -> bytes:
        with told(self.path, "read"):
            return bytes(self._file.read(size))

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)
