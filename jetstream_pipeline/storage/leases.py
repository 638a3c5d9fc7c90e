"""Leases in an object store: what a lock is to one machine, among machines that share nothing but the store.

A lease is one object, which only changes by comparing and swapping. Its holder renews it; one that has not changed for
as long as it was to last is a dead holder's, and another one takes it. That is measured by each waiting machine's own
clock from when it saw the lease first: no two clocks are compared.
"""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.swapping import swap

if TYPE_CHECKING:
    from upath import UPath

_LASTS_SEC = 30.0
_RENEWALS = 3
"""While a lease lasts: two may fail."""
_POLL_SEC = 0.5


class LeaseLost(StorageError):
    """Others took the lease while it was held: its holder, or the store, was out of reach for too long."""

    passing = True


class _Lease(BaseModel):
    model_config = ConfigDict(frozen=True)

    holder: str
    """Machine and chance; empty where it is free."""
    lasts_sec: float
    change: str
    """Another one each time, so that no two contents are the same."""

    @classmethod
    def made(cls, holder: str, lasts_sec: float) -> _Lease:
        return cls(holder=holder, lasts_sec=lasts_sec, change=secrets.token_hex(8))

    def text(self) -> bytes:
        return self.model_dump_json().encode()


@contextmanager
def leased(path: UPath, *, lasts: float = _LASTS_SEC) -> Iterator[None]:
    """Hold the lease, and renew it until the body ends; waits while others hold it.

    `lasts`: seconds without a renewal after which others may take it. LeaseLost at the end where others did not wait
    for the body; StorageError where the store cannot be used.
    """
    held = _Held(path, lasts)
    held.take()
    done = threading.Event()
    renewing = threading.Thread(target=held.renew, args=[done], name="lease", daemon=True)
    renewing.start()
    try:
        yield
    except BaseException:
        with suppress(StorageError):
            _end(done, renewing, held)
        raise
    _end(done, renewing, held)


def _end(done: threading.Event, renewing: threading.Thread, held: _Held) -> None:
    done.set()
    renewing.join()
    held.free()


class _Held:
    """One holder's side of a lease."""

    def __init__(self, path: UPath, lasts: float) -> None:
        self._path = path
        self._lasts = lasts
        self._holder = f"{socket.gethostname()}-{secrets.token_hex(8)}"

    def take(self) -> None:
        seen: str | None = ""
        seen_at = 0.0
        while True:
            version, lease = _read(self._path)
            if version != seen:
                seen, seen_at = version, time.monotonic()
            is_free = lease is None or not lease.holder or time.monotonic() - seen_at > lease.lasts_sec
            if is_free and self._change(version, self._holder):
                return
            time.sleep(_POLL_SEC * random.uniform(0.2, 1.0))

    def renew(self, done: threading.Event) -> None:
        while not done.wait(self._lasts / _RENEWALS):
            # The next one may do; where it was too late, `free` says so.
            with suppress(StorageError):
                version, lease = _read(self._path)
                if self._is_ours(lease):
                    self._change(version, self._holder)

    def free(self) -> None:
        """LeaseLost where it was not held to the end."""
        version, lease = _read(self._path)
        if not (self._is_ours(lease) and self._change(version, "")):
            raise LeaseLost(f"the lease {self._path} was taken over while it was held; try again")

    def _is_ours(self, lease: _Lease | None) -> bool:
        return lease is not None and lease.holder == self._holder

    def _change(self, version: str | None, holder: str) -> bool:
        """Whether the lease was still of that version, and now is what we say."""
        lease = _Lease.made(holder, self._lasts)
        # A swap whose answer was lost is repeated by the library, and refused: then the lease itself is asked.
        return swap(self._path, version, lease.text()) or _read(self._path)[1] == lease


def _read(path: UPath) -> tuple[str | None, _Lease | None]:
    """The lease and its version, None where there is none. The version is not newer than what is read with it, so that
    a swap for it is safe."""
    said = objects.info(path)
    content = objects.content(path) if said else None
    if said is None or content is None:
        return None, None
    try:
        return objects.tag(said), _Lease.model_validate_json(content)
    except ValidationError:
        return objects.tag(said), None
