"""Putting a window that was read into the lake: its state, its seams to the neighbours, one file in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from jetstream_pipeline import __version__
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.draft import Draft
from jetstream_pipeline.replay.edges import Section
from jetstream_pipeline.replay.evidence import Evidence
from jetstream_pipeline.replay.seams import Seams, neighbours
from jetstream_pipeline.replay.streams import say_filter
from jetstream_pipeline.storage.days import expand
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.event_layout import FILE_SCHEMA
from jetstream_pipeline.storage.files import move, told, version
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.storage.quarantine import QUARANTINE_SCHEMA
from jetstream_pipeline.storage.settling import settling
from jetstream_pipeline.storage.staging import StagedWindow
from jetstream_pipeline.storage.summary import Counts, WindowState, WindowSummary
from jetstream_pipeline.storage.window_file import RowGroups, count, emptied, write_window
from jetstream_pipeline.window import Window


@dataclass(frozen=True)
class Place:
    """Where a window goes: the data directory, the stream, the hour; the filter that the stream's windows have, and
    whether it is to `replace` another one that they had."""

    data: DataDirectory
    stream: str
    window: Window
    subscription: Subscription
    replace: bool = False


@contextmanager
def drafted(place: Place, files: StagedWindow, skew_us: int) -> Iterator[Draft | None]:
    """The window's file, begun before the window is read; it follows what is staged. None where a window beside it
    cannot be read just now."""
    try:
        with told(place.data.lake.root, "read"):
            seams = Seams.read(place.data.lake, place.stream, place.window, place.subscription.fingerprint, skew_us)
    except StorageError:
        yield None
        return
    draft = Draft(files.folder / "events.parquet", seams)
    files.follow(draft.add)
    try:
        yield draft
    finally:
        draft.close()


def seal(place: Place, files: StagedWindow, evidence: Evidence, draft: Draft | None = None) -> WindowSummary:
    """Put what was staged where its state says, in one step, and return what the file says of itself.

    `draft`: the file as far as it was written already.

    A whole window is not replaced by one that is not: then what was staged is dropped. InvalidInput where the stream
    was given another filter meanwhile, StorageError where the disk does not take it; then the lake is as it was, and
    what was staged stays.
    """
    state, reason = evidence.verdict(place.window)
    with told(files.folder, "write"):
        try:
            files.wait()
            if state.is_whole:
                return _seal_whole(place, files, evidence, reason, draft)
            return _seal_incomplete(place, files, evidence, state, reason, draft)
        except pa.ArrowException as error:
            raise StorageError(f"cannot write {files.folder}: {error}") from error


def _seal_whole(
    place: Place, files: StagedWindow, evidence: Evidence, reason: str, draft: Draft | None
) -> WindowSummary:
    data, stream, window, lake = place.data, place.stream, place.window, place.data.lake
    messages = _write_messages(files)
    while True:
        # On another machine, its day may have been made one file meanwhile.
        expand(data, stream, window.start.date())
        seams = Seams.read(lake, stream, window, evidence.fingerprint, evidence.skew_us)
        if evidence.lacks_lead and seams.previous is not None:
            reason = "what its host witnessed just before the window is missing, so the seam to it cannot be shown"
            return _seal_incomplete(place, files, evidence, WindowState.UNPROVEN, reason, draft)
        if draft and draft.seams.are_as(seams):
            written, seams = draft.path, draft.seams
            summary = draft.finish(_describing(place, files, evidence, seams, WindowState.COMPLETE, reason))
        else:
            written = files.folder / "settled.parquet"
            describe = _describing(place, files, evidence, seams, WindowState.COMPLETE, reason)
            summary = write_window(written, seams.settle(files.events()), describe)
        draft = None
        with settling(data, stream):
            are_others = tuple(map(version, neighbours(lake, stream, window))) != seams.versions
            if are_others or lake.is_of_a_day(stream, window):
                continue
            say_filter(data, stream, place.subscription, replace=place.replace)
            _put(messages, data.quarantine_path(stream, window), summary)
            move(written, lake.events_path(stream, window))
            emptied(lake.incomplete_path(stream, window), FILE_SCHEMA, summary)
        return summary


def _seal_incomplete(
    place: Place, files: StagedWindow, evidence: Evidence, state: WindowState, reason: str, draft: Draft | None
) -> WindowSummary:
    data, stream, window = place.data, place.stream, place.window
    describe = _describing(place, files, evidence, None, state, reason)
    own = (batch for section, batch in files.events() if section == Section.WINDOW)
    if data.lake.has(stream, window):
        return describe(count(own))
    if draft and draft.is_as_read:
        written, summary = draft.path, draft.finish(describe)
    else:
        written = files.folder / "read.parquet"
        summary = write_window(written, own, describe)
    _put(_write_messages(files), data.quarantine_path(stream, window), summary)
    move(written, data.lake.incomplete_path(stream, window))
    return summary


def _describing(
    place: Place,
    files: StagedWindow,
    evidence: Evidence,
    seams: Seams | None,
    state: WindowState,
    reason: str,
) -> Callable[[Counts], WindowSummary]:
    """What a file says of itself, but for its counts: they are known when the last row is written."""

    def describe(counts: Counts) -> WindowSummary:
        settled = {"left_to_neighbours": seams.left, "taken_from_beyond": seams.taken} if seams else {}
        return WindowSummary(
            **counts.model_dump(),
            stream=place.stream,
            start=place.window.start,
            end=place.window.end,
            state=state,
            reason=reason,
            fingerprint=evidence.fingerprint,
            host=",".join(evidence.hosts),
            wire=",".join(evidence.wires),
            proof=evidence.proof().model_copy(update=settled),
            quarantined=sum(rows.num_rows for rows in files.rejected()),
            seconds=evidence.seconds,
            finished_at=datetime.now(UTC),
            version=__version__,
        )

    return describe


def _write_messages(files: StagedWindow) -> Path | None:
    """The messages that are no events as one file, still out of sight; None where there are none."""
    number = 0
    with closing(RowGroups(files.folder / "messages.parquet", QUARANTINE_SCHEMA)) as rows:
        for batch in files.rejected():
            rows.add(batch)
            number += batch.num_rows
        rows.finish()
    return rows.path if number else None


def _put(messages: Path | None, target: AnyPath, summary: WindowSummary) -> None:
    if messages is None:
        emptied(target, QUARANTINE_SCHEMA, summary)
    else:
        move(messages, target)
