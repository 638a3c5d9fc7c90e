"""The file of what was found out about handles: one JSON line for each attempt, added to and never changed.

It is a cache by its last lines, and by all of them the history of which handle was whose, and who said so.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from jetstream_pipeline.handles.endpoints import Endpoints
from jetstream_pipeline.handles.errors import HandleCacheError

_FRESH_FOUND = timedelta(hours=24)
_FRESH_FAILED = timedelta(seconds=60)


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One attempt at a handle: a DID and its source, or the reason why there is none."""

    handle: str
    did: str | None = None
    source: str | None = None
    checked_at: Annotated[datetime, msgspec.Meta(tz=True)]
    reason: str | None = None
    passing: bool = False
    appview: str
    plc: str
    dns: str | None = None

    def is_fresh(self, now: datetime) -> bool:
        """Whether it still holds. What comes from a clock ahead of ours does not."""
        age = now - self.checked_at
        return timedelta(0) <= age < (_FRESH_FAILED if self.did is None else _FRESH_FOUND)

    def asked(self, endpoints: Endpoints) -> bool:
        return (self.appview, self.plc, self.dns) == (endpoints.appview, endpoints.plc, endpoints.dns)


@dataclass(frozen=True)
class HandleCache:
    """Attempts in a file that several processes may share."""

    path: Path

    def fresh(self, handles: Collection[str], endpoints: Endpoints, now: datetime) -> dict[str, Attempt]:
        """The last attempt at each of the handles with these endpoints, where it still holds."""
        wanted = set(handles)
        latest = {
            attempt.handle: attempt
            for attempt in self._attempts()
            if attempt.handle in wanted and attempt.asked(endpoints)
        }
        return {handle: attempt for handle, attempt in latest.items() if attempt.is_fresh(now)}

    def add(self, attempt: Attempt) -> None:
        """Append a line, also where a crash left the last one without its end."""
        with self._told("write"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if file.seek(0, os.SEEK_END) > 0:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(msgspec.json.encode(attempt) + b"\n")

    def _attempts(self) -> Iterator[Attempt]:
        """All that can be read; what cannot was left by a crash."""
        decoder = msgspec.json.Decoder(Attempt)
        with self._told("read"):
            if not self.path.exists():
                return
            with self.path.open("rb") as file:
                for line in file:
                    try:
                        yield decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        continue

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise HandleCacheError(f"cannot {doing} {self.path}: {reason}; check its permissions and space") from error
