"""A window while it is being read: its batches, durable and out of readers' sight, so that a run that dies is not lost.

staging/<stream>/<window>/NNNNNN-CHECKSUM.events    events as an Arrow file; its metadata says how far the run had come
staging/<stream>/<window>/NNNNNN-CHECKSUM.rejected  the messages among them that are none, durable before the events are
staging/<stream>/<window>.lock                      held by the run that is at it

Nothing is compressed: that would take a tenth of a replay's processor time, for files that live for as long as it does.
What is said of how far a run has come is `replay`'s; here it is text.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.storage.behind import Behind
from jetstream_pipeline.storage.days import held
from jetstream_pipeline.storage.errors import StorageError, WindowBusy
from jetstream_pipeline.storage.files import Lock, fsync_path, locked, make_directory, told
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import QUARANTINE_SCHEMA
from jetstream_pipeline.storage.window_file import rows_size
from jetstream_pipeline.window import Window

_SECTION = pa.field("section", pa.int8(), nullable=False)
_PART_SCHEMA = EVENT_SCHEMA.append(_SECTION)
_PART_ROWS = 32_768
_PART_BYTES = 32 * 1024 * 1024
_BATCH_ROWS = 1_024
_PART_SEC = 5.0
"""What a run that dies has to read again."""
KEY_CHARS = len("2026-01-31-1400")
"""Of a window's key in the names of folders and locks."""
_WITHOUT_RECORDS = pa.ipc.IpcReadOptions(
    included_fields=[number for number, name in enumerate(EVENT_SCHEMA.names) if name != "record"]
)
_STATE, _REJECTED = b"state", b"rejected"
_HOUR = timedelta(hours=1)
FORGOTTEN_SEC = 3 * 86_400
"""Longer than any host's look-back that we know: what such a run read cannot be gone on with."""

Sections = Iterator[tuple[int, pa.RecordBatch]]


Follower = Callable[[Sections], None]


@dataclass(frozen=True)
class _Part:
    events: Path
    rejected: Path | None
    state: str


@dataclass
class _Batches:
    """What waits to be made durable."""

    events: list[pa.RecordBatch] = field(default_factory=list)
    rejected: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0


class StagedWindow:
    """What has been read of one window. Use `staged`, which also holds the window's lock.

    Batches become durable in a thread of its own, while more are read: an error there is raised by a later call.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts = list(_usable(folder))
        self._waiting = _Batches()
        self._behind = Behind("staging")
        self._follower: Follower | None = None
        self._followed = 0
        self._durable_at = time.monotonic()
        self.is_done = False
        """Whether the staged batches are needed no more; set by `discard`."""

    @property
    def state(self) -> str | None:
        """What the last checkpoint said of how far the run had come; None where there is nothing to go on with."""
        self._behind.wait()
        return self._parts[-1].state if self._parts else None

    def add(self, section: int, events: pa.RecordBatch) -> None:
        """Events that follow the ones before; `section` is told again by `events`."""
        if events.num_rows:
            self._waiting.rows += events.num_rows
            self._waiting.bytes += rows_size(events)
            sections = pa.repeat(pa.scalar(section, pa.int8()), events.num_rows)
            self._waiting.events.append(pa.RecordBatch.from_arrays([*events.columns, sections], schema=_PART_SCHEMA))

    def add_rejected(self, rows: pa.RecordBatch) -> None:
        """Rows of `QUARANTINE_SCHEMA`."""
        self._waiting.rejected.append(rows)
        self._waiting.bytes += rows.nbytes

    @property
    def is_due(self) -> bool:
        """Whether enough has come, or waited for long enough, to be made durable."""
        overdue = time.monotonic() - self._durable_at >= _PART_SEC
        waiting = self._waiting
        return (
            waiting.rows >= _PART_ROWS or waiting.bytes >= _PART_BYTES or (overdue and waiting.rows + waiting.bytes > 0)
        )

    def checkpoint(self, state: str) -> None:
        """Have what was added made durable, with `state`, which says how far the run has come."""
        batches, self._waiting = self._waiting, _Batches()
        self._behind.do(partial(self._write_part, batches, state))
        self._durable_at = time.monotonic()

    def _write_part(self, batches: _Batches, state: str) -> None:
        try:
            # It need not wait until they are durable: what it makes of them does not count before.
            self._hand_on(batches.events)
        finally:
            self._parts.append(self._written(batches, state))

    def _written(self, batches: _Batches, state: str) -> _Part:
        number = len(self._parts) + 1
        with told(self.folder, "write"):
            rejected = None
            if batches.rejected:
                rejected = self._write(number, "rejected", batches.rejected, QUARANTINE_SCHEMA)
            metadata = {_STATE: state.encode(), _REJECTED: rejected.name.encode() if rejected else b""}
            events = self._write(number, "events", batches.events, _PART_SCHEMA.with_metadata(metadata))
        return _Part(events, rejected, state)

    def follow(self, follower: Follower) -> None:
        """Hand each part's batches, with their sections, to `follower`, in the order added: in the other thread, from
        the next checkpoint on, or by `wait`."""
        self._follower = follower

    def _hand_on(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._follow()
        if self._follower:
            self._follower(_sections(batches))
            self._followed += 1

    def _follow(self) -> None:
        for part in self._parts[self._followed :] if self._follower else ():
            assert self._follower
            self._follower(_sections(_read(part.events)))
            self._followed += 1

    def wait(self) -> None:
        """Until every checkpoint is durable and the follower has it."""
        self._behind.do(self._follow)
        self._behind.wait()

    def close(self) -> None:
        self._behind.close()

    def _write(self, number: int, kind: str, batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> Path:
        temporary = self.folder / f"{number:06}.tmp"
        try:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in _gathered(batches):
                    writer.write_batch(batch)
            target = self.folder / f"{number:06}-{_checksum(temporary)}.{kind}"
            fsync_path(temporary)
            temporary.replace(target)
            fsync_path(self.folder)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def events(self) -> Sections:
        """All events in the order added, each batch with its section."""
        self._behind.wait()
        for part in self._parts:
            yield from _sections(_read(part.events))
        for batch in self._waiting.events:
            yield from _sections([batch])

    def latest_events(self, rows: int) -> list[pa.RecordBatch]:
        """The last durable events, at least so many where there are, in order; without their records."""
        self._behind.wait()
        found: list[pa.RecordBatch] = []
        for part in reversed(self._parts):
            if sum(batch.num_rows for batch in found) >= rows:
                break
            found = [*_read(part.events, _WITHOUT_RECORDS), *found]
        return [batch for batch in found if batch.num_rows]

    def rejected(self) -> Iterator[pa.RecordBatch]:
        """The messages that are no events, in the order added."""
        self._behind.wait()
        for part in self._parts:
            if part.rejected:
                yield from _read(part.rejected)
        yield from self._waiting.rejected

    def clear(self) -> None:
        """Begin anew; only before anything was followed."""
        self._behind.wait()
        assert not self._followed
        with told(self.folder, "empty"):
            for path in self.folder.iterdir():
                path.unlink()
        self._parts, self._waiting = [], _Batches()

    def discard(self) -> None:
        """Say that what was read is in its place, or not wanted."""
        self.is_done = True


@contextmanager
def at_window(data: DataDirectory, stream: str, window: Window) -> Iterator[Lock]:
    """Be the only one who works on a window; WindowBusy where another process does."""
    parent = data.staging / check_name(stream)
    make_directory(parent)
    busy = WindowBusy(f"another run is at {stream} {window}; wait for it to end")
    with locked(parent / f"{_key(window)}.lock", busy) as lock:
        yield lock


def _key(window: Window) -> str:
    return window.key.replace(":", "")


@contextmanager
def staged(data: DataDirectory, stream: str, window: Window, purpose: str = "") -> Iterator[StagedWindow]:
    """Stage one window, with what a run that died has left of it; WindowBusy where another process is at it.

    Runs of another `purpose` have a folder of their own, and no two are at a window at once. Its day, and those of the
    windows beside it, are hours meanwhile.
    What is staged stays until it is discarded, whatever happens.
    """
    name = f"{_key(window)}-{purpose}" if purpose else _key(window)
    folder = data.staging / check_name(stream) / name
    beside = (Window(window.start + shift, window.end + shift) for shift in (-_HOUR, _HOUR))
    with at_window(data, stream, window) as lock, held(data, stream, (window, *beside)):
        make_directory(folder)
        with told(folder, "read"):
            files = StagedWindow(folder)
        try:
            yield files
        finally:
            files.close()
        if files.is_done:
            _remove(folder)
            lock.remove()


def sweep(data: DataDirectory, stream: str) -> None:
    """Remove what runs have left of a stream's windows so long ago that nobody can go on with it."""
    for folder in sorted((data.staging / check_name(stream)).glob("*/")):
        with suppress(OSError, StorageError):
            if time.time() - _touched(folder) > FORGOTTEN_SEC:
                with locked(folder.parent / f"{folder.name[:KEY_CHARS]}.lock", WindowBusy("at work")) as lock:
                    _remove(folder)
                    lock.remove()


def _touched(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def _remove(folder: Path) -> None:
    with told(folder, "delete"):
        shutil.rmtree(folder)


def _usable(folder: Path) -> Iterator[_Part]:
    """The durable parts, up to the first one that is missing, damaged or of other columns; the others are deleted."""
    left = dict.fromkeys(sorted(folder.iterdir()))
    number = 1
    while found := _found(left, number):
        metadata = _schema(found).metadata
        name = metadata[_REJECTED].decode()
        rejected = folder / name if name else None
        if rejected and not (rejected in left and _holds(rejected, QUARANTINE_SCHEMA)):
            break
        yield _Part(found, rejected, metadata[_STATE].decode())
        left.pop(found)
        if rejected:
            left.pop(rejected)
        number += 1
    for path in left:
        path.unlink()


def _found(paths: Iterable[Path], number: int) -> Path | None:
    candidates = (path for path in paths if path.name.startswith(f"{number:06}-") and path.suffix == ".events")
    return next((path for path in candidates if _holds(path, _PART_SCHEMA)), None)


def _holds(path: Path, schema: pa.Schema) -> bool:
    """Whether a file is as it was written, by a program that knows the same columns."""
    return _is_sound(path) and _schema(path).equals(schema)


def _is_sound(path: Path) -> bool:
    """Whether a file's bytes are those that were written: their checksum is part of its name."""
    return path.stem.endswith(f"-{_checksum(path)}")


def _checksum(path: Path) -> str:
    checksum = xxhash.xxh3_64()
    with path.open("rb", buffering=0) as file:
        while content := file.read(1 << 20):
            checksum.update(content)
    return checksum.hexdigest()


def _gathered(batches: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches that are worth their price."""
    small: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        small.append(batch)
        rows += batch.num_rows
        if rows >= _BATCH_ROWS:
            yield pa.concat_batches(small) if len(small) > 1 else batch
            small, rows = [], 0
    if small:
        yield pa.concat_batches(small)


def _schema(path: Path) -> pa.Schema:
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        return reader.schema


def _read(path: Path, options: pa.ipc.IpcReadOptions | None = None) -> Iterator[pa.RecordBatch]:
    with told(path, "read"), pa.OSFile(str(path)) as file, pa.ipc.open_file(file, options=options) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _sections(batches: Iterator[pa.RecordBatch] | Sequence[pa.RecordBatch]) -> Sections:
    """The batches cut where one section ends and the next begins."""
    for batch in batches:
        section, events = batch["section"], pa.RecordBatch.from_arrays(batch.columns[:-1], schema=EVENT_SCHEMA)
        start = 0
        while start < batch.num_rows:
            value = section[start]
            end = pc.index(pc.not_equal(section.slice(start), value), True).as_py()
            length = batch.num_rows - start if end < 0 else end
            yield value.as_py(), events.slice(start, length)
            start += length
