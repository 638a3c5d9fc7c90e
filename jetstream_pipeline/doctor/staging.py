"""What runs have left in staging: which of it a run goes on with, and what may be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Figures, Finding, ok, warning
from jetstream_pipeline.doctor.holders import holders
from jetstream_pipeline.doctor.words import count, size, span
from jetstream_pipeline.storage.left_over import StagedFolder, staged_folders


def examine_staging(case: Case) -> Iterator[Finding]:
    folders = list(staged_folders(case.data))
    held = holders(folder.lock for folder in folders)
    orphans = [folder for folder in folders if folder.lock not in held]
    for folder in orphans:
        yield _told(folder, case)
    if not orphans:
        number = len(folders)
        yield ok(f"no run has left anything in staging; {count(number, 'window')} under way there", under_way=number)


def _told(folder: StagedFolder, case: Case) -> Finding:
    now = case.now.timestamp()
    age = timedelta(seconds=max(now - folder.touched, 0.0))
    what = f"{folder.purpose or 'a replay'} of {folder.stream} {folder.window}"
    text = f"no process holds what is staged of {what}: {size(folder.bytes)}, {span(age)} old"
    figures: Figures = {
        "stream": folder.stream,
        "window": folder.window.key,
        "bytes": folder.bytes,
        "age_seconds": round(age.total_seconds()),
    }
    if folder.is_forgotten(now):
        return warning(
            f"{text}; nobody goes on with it: the stream's next replay removes it, or rm -r {folder.path}", **figures
        )
    if not folder.purpose and case.data.lake.has(folder.stream, folder.window):
        return ok(f"{text}; the window is whole, and another replay of it would go on from there", **figures)
    return warning(f"{text}; run it again, which goes on from there", **figures)
