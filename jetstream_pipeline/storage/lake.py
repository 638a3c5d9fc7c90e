"""The lake: where each window's Parquet file lies, and what its metadata says. Writing batches is `staging`'s.

<root>/<stream>/events/date=YYYY-MM-DD/hour=HH/events.parquet       complete and verified windows
<root>/<stream>/incomplete/date=YYYY-MM-DD/hour=HH/events.parquet   what a host gave of the others
<root>/<stream>/<table>/date=YYYY-MM-DD/hour=HH/<table>.parquet     derived from `events`
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.window import Window

EVENTS = "events"
INCOMPLETE = "incomplete"
SUMMARY_KEY = b"jetstream_window"
"""The Parquet key-value entry that holds a window's summary as JSON."""

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}\Z")


class WindowState(StrEnum):
    COMPLETE = "complete"
    TRUNCATED = "truncated"
    UNPROVEN = "unproven"
    VERIFIED = "verified"

    @property
    def is_whole(self) -> bool:
        return self in (WindowState.COMPLETE, WindowState.VERIFIED)


class WindowSummary(BaseModel):
    """What a window's file says of itself. It travels in the file, so no second file can disagree with it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stream: str
    start: datetime
    end: datetime
    state: WindowState
    reason: str
    """Why the state is what it is, in words."""
    fingerprint: str
    """Identity of the stream's filter; see `Subscription.fingerprint`."""
    events: int
    first_time: datetime | None
    last_time: datetime | None
    counts_by_kind: dict[str, int]
    counts_by_collection: dict[str, int]
    host: str
    """The hosts that the events were read from, joined by a comma."""
    wire: str
    cursor: int
    """The cursor that the first connection asked for: unix microseconds, before the window's start."""
    connections: list[str]
    """Why each connection ended, in order."""
    repeats: int
    """Events delivered again after a reconnection, recognised and dropped."""
    quarantined: int
    seconds: float
    """Time that the replay took."""
    finished_at: datetime
    version: str

    @property
    def window(self) -> Window:
        return Window(self.start, self.end)

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


def check_name(name: str, what: str = "stream") -> str:
    """A stream's or table's name as it may stand in paths and SQL; InvalidInput otherwise."""
    if not _NAME.match(name):
        raise InvalidInput(
            f"{name!r} cannot name a {what}: use a lower-case letter, then letters, digits and _ (63 at most)"
        )
    return name


class Lake:
    """The Parquet files below one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def events_path(self, stream: str, window: Window) -> Path:
        return self._path(stream, EVENTS, window, EVENTS)

    def incomplete_path(self, stream: str, window: Window) -> Path:
        return self._path(stream, INCOMPLETE, window, EVENTS)

    def table_path(self, stream: str, table: str, window: Window) -> Path:
        return self._path(stream, check_name(table, "table"), window, table)

    def _path(self, stream: str, folder: str, window: Window, name: str) -> Path:
        if not window.is_hour:
            raise InvalidInput(f"the lake holds whole hours; {window} is not one")
        hive = Path(f"date={window.start:%Y-%m-%d}", f"hour={window.start:%H}")
        return self.root / check_name(stream) / folder / hive / f"{name}.parquet"

    def streams(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir() and _NAME.match(entry.name))

    def datasets(self, stream: str) -> list[str]:
        """The folders of a stream that hold at least one window: `events`, `incomplete` and tables."""
        found = []
        for folder in sorted((self.root / check_name(stream)).iterdir()):
            name = EVENTS if folder.name == INCOMPLETE else folder.name
            if folder.is_dir() and next(folder.glob(f"date=*/hour=*/{name}.parquet"), None):
                found.append(folder.name)
        return found


def read_summary(path: Path) -> WindowSummary:
    """The summary in a window's file; StorageError where the file is not one of ours or is damaged."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return WindowSummary.model_validate_json(metadata[SUMMARY_KEY])
    except (OSError, pa.ArrowException, KeyError, ValidationError) as error:
        raise StorageError(f"{path} is not a window's file ({error}); delete it and replay the window") from error
