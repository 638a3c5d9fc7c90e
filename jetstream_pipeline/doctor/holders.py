"""Who holds the locks on files, as the system tells it: to try a lock would be in the way of others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_FLOCK = ("FLOCK", "OFDLCK", "POSIX")


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock, and for how long at most (seconds)."""

    pid: int
    command: str
    seconds: float

    def __str__(self) -> str:
        return f"process {self.pid}{f' ({self.command})' if self.command else ''}"


def is_told() -> bool:
    """Whether this system tells who holds locks: Linux does."""
    return (_PROC / "locks").exists()


def holders(paths: Iterable[Path]) -> dict[Path, Holder]:
    """The holders of those of the files that are locked by a process of this machine."""
    locked = dict(_locked())
    found = {}
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        pid = locked.get((os.major(status.st_dev), os.minor(status.st_dev), status.st_ino))
        if pid:
            found[path] = Holder(pid, _command(pid), min(_age(pid), time.time() - status.st_mtime))
    return found


def _locked() -> Iterable[tuple[tuple[int, int, int], int]]:
    """Device and inode of each locked file, and the process. Those that wait for a lock are left out."""
    for line in (_PROC / "locks").read_text().splitlines() if is_told() else ():
        _, kind, _, _, pid, place, *_ = [*line.split(), "", "", "", "", "", ""]
        if kind in _FLOCK and int(pid) > 0:
            major, minor, inode = place.split(":")
            yield (int(major, 16), int(minor, 16), int(inode)), int(pid)


def _command(pid: int) -> str:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return " ".join(Path(word).name if number == 0 else word for number, word in enumerate(words) if word)[:60]


def _age(pid: int) -> float:
    """How long a process has been there; without end where that is not known."""
    try:
        return time.time() - (_PROC / str(pid)).stat().st_ctime
    except OSError:
        return float("inf")
