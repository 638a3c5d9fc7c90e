"""A window's file that is written while the window is still being read, so that it is there when the reading ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from jetstream_pipeline.replay.seams import Seams
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import told
from jetstream_pipeline.storage.summary import Counts, WindowSummary
from jetstream_pipeline.storage.window_file import WindowWriter


class Draft:
    """Takes the windows beside it as they stood when it was begun; where they have changed since, it is of no use."""

    def __init__(self, path: Path, seams: Seams) -> None:
        self.path = path
        self.seams = seams
        self._opened = ExitStack()

    @cached_property
    def _writer(self) -> WindowWriter:
        return self._opened.enter_context(closing(WindowWriter(self.path)))

    def add(self, events: Iterable[tuple[int, pa.RecordBatch]]) -> None:
        """The next events of what is read, with their sections. This or a later call raises StorageError where the disk
        does not take them."""
        with told(self.path, "write"):
            try:
                for section, batch in events:
                    kept = self.seams.settled(section, batch)
                    if kept.num_rows:
                        self._writer.add(kept)
            except pa.ArrowException as error:
                raise StorageError(f"cannot write {self.path}: {error}") from error

    @property
    def is_as_read(self) -> bool:
        """Whether it holds just the events that lie in the window by their host's clock."""
        return self.seams.left == self.seams.taken == 0

    def finish(self, describe: Callable[[Counts], WindowSummary]) -> WindowSummary:
        """Make it durable, with what `describe` says of it."""
        with told(self.path, "write"):
            return self._writer.finish(describe)

    def close(self) -> None:
        self._opened.close()
