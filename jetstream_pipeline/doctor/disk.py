"""Whether there is room for what comes, and whether it can be written. Nothing is written to find out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Figures, Finding, ok, problem, warning
from jetstream_pipeline.doctor.words import size
from jetstream_pipeline.storage.files import exists
from jetstream_pipeline.storage.files import size as size_of
from jetstream_pipeline.storage.hive import hour_of
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.tables.definitions import TABLES

_SAMPLE = 48
"""The newest windows of a stream: what an hour takes now."""
_FULL_BYTES = 3_000_000_000
"""Room for a window's staging, its file and its tables: half a kilobyte an event, and 120 bytes."""
_SHORT_DAYS = 1.0
_LOW_DAYS = 7.0
_FEW_FILES = 10_000
_REMOTE_SYSTEMS = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "gluster", "lustre")


def examine_disk(case: Case) -> Iterator[Finding]:
    root = case.data.root
    place = _existing(root)
    if not place.is_dir():
        yield problem(f"{place} is no folder; set JETSTREAM_DATA_DIR to one")
        return
    if place != root:
        yield ok(f"there is no data directory {root} yet; the first window makes it")
    if os.statvfs(place).f_flag & os.ST_RDONLY or not os.access(place, os.W_OK | os.X_OK):
        yield problem(f"{place} cannot be written by this user; mend its permissions, or set JETSTREAM_DATA_DIR")
    yield _room(case, place)
    if 0 < os.statvfs(place).f_favail < _FEW_FILES:
        yield problem(f"the file system of {place} has room for few more files (inodes); delete some")
    yield from _staging(case)


def _room(case: Case, place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    is_here = isinstance(case.data.lake.root, Path)
    hourly = sum(bytes_per_hour(case.data.lake, name) for name in case.names) if is_here else 0.0
    figures: Figures = {"free_bytes": free, "bytes_per_hour": round(hourly)}
    if free < _FULL_BYTES:
        return problem(f"{size(free)} free in {place}: too little for a window; make room", **figures)
    if not is_here:
        return ok(f"{size(free)} free in {place}; the windows lie elsewhere, in {case.data.lake.root}", **figures)
    if not hourly:
        return ok(f"{size(free)} free in {place}; what an hour takes is not known yet", **figures)
    days = free / hourly / 24
    text = f"{size(free)} free in {place}; an hour takes {size(hourly)} on average, so that lasts {days:,.0f} days"
    figures["days"] = round(days, 1)
    if days < _SHORT_DAYS:
        return problem(f"{text}: make room now", **figures)
    return warning(f"{text}: make room, or keep fewer windows", **figures) if days < _LOW_DAYS else ok(text, **figures)


def bytes_per_hour(lake: Lake, stream: str) -> float:
    """What a stream's newest windows take on average, with their tables; zero where there are none."""
    sizes = []
    for path in islice(lake.windows(stream), _SAMPLE):
        tables = (lake.table_path(stream, table.name, hour_of(path)) for table in TABLES)
        sizes.append(sum(size_of(file) for file in (path, *tables) if exists(file)))
    return sum(sizes) / len(sizes) if sizes else 0.0


def _staging(case: Case) -> Iterator[Finding]:
    staging, root = _existing(case.data.staging), case.data.lake.root
    if isinstance(root, Path) and staging.stat().st_dev != _existing(root).stat().st_dev:
        yield warning(f"{staging} and {root} lie on different file systems: each window is copied, not moved")
    kind = _file_system(staging)
    if kind.startswith(_REMOTE_SYSTEMS):
        yield warning(f"{staging} lies on {kind}, whose locks may not hold between machines; put it on a local disk")


def _existing(path: Path) -> Path:
    """The path, or what is there of those above it."""
    while not path.exists():
        path = path.parent
    return path


def _file_system(path: Path) -> str:
    """The kind of a file system, as Linux names it; empty where it is not known."""
    mounts = Path("/proc/self/mounts")
    found = {Path("/"): ""}
    if mounts.exists():
        for line in mounts.read_text().splitlines():
            _, place, kind, *_ = line.split(" ")
            found[Path(place.replace("\\040", " "))] = kind
    resolved = path.resolve()
    return next(found[place] for place in (resolved, *resolved.parents) if place in found)
