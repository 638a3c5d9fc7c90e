"""What lies in staging, seen from outside: which window each folder is of, how large it is, and since when. What is in
one belongs to `staging`. Nothing is written or locked here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import FORGOTTEN_SEC, KEY_CHARS
from jetstream_pipeline.window import Window


@dataclass(frozen=True)
class StagedFolder:
    """A folder of batches that were read of a window. `lock` is held by the run that is at it, if any is."""

    stream: str
    window: Window
    purpose: str
    """Empty for a replay."""
    path: Path
    lock: Path
    touched: float
    """When something was written last: unix seconds."""
    bytes: int

    def is_forgotten(self, now: float) -> bool:
        """Whether nobody goes on with it any more: then the next replay of the stream removes it."""
        return now - self.touched > FORGOTTEN_SEC


def staged_folders(data: DataDirectory) -> Iterator[StagedFolder]:
    """Every folder in staging, by stream and window. One that vanishes meanwhile is left out."""
    for path in sorted(data.staging.glob("*/*/")):
        with suppress(InvalidInput, FileNotFoundError):
            window = _window(path.name)
            statuses = [path.stat(), *(file.stat() for file in path.iterdir())]
            yield StagedFolder(
                stream=path.parent.name,
                window=window,
                purpose=path.name[KEY_CHARS + 1 :],
                path=path,
                lock=path.parent / f"{path.name[:KEY_CHARS]}.lock",
                touched=max(status.st_mtime for status in statuses),
                bytes=sum(status.st_size for status in statuses[1:]),
            )


def window_locks(data: DataDirectory) -> dict[Path, tuple[str, Window]]:
    """The locks of windows in staging, held or not: each stream and window."""
    found = {}
    for path in sorted(data.staging.glob("*/*.lock")):
        with suppress(InvalidInput):
            found[path] = (path.parent.name, _window(path.stem))
    return found


def _window(name: str) -> Window:
    """The window whose key a name begins with, without its colon; InvalidInput where it is none."""
    return Window.from_key(f"{name[: KEY_CHARS - 2]}:{name[KEY_CHARS - 2 : KEY_CHARS]}")
