"""The data directory: which room of it lies where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.cache import Cache
from jetstream_pipeline.storage.hive import hour_folder
from jetstream_pipeline.storage.lake import Lake, check_name
from jetstream_pipeline.window import Window

_ODD = "=?\\\n"
"""An equals sign in a folder's name makes a column of it; the others do not come through DuckDB's paths."""


@dataclass(frozen=True)
class DataDirectory:
    """The paths below `JETSTREAM_DATA_DIR`."""

    root: Path

    def __post_init__(self) -> None:
        odd = sorted(set(str(self.root.resolve())) & set(_ODD))
        if odd:
            raise InvalidInput(
                f"the data directory's path {self.root} has {' '.join(map(repr, odd))} in it, which DuckDB does not "
                "take for part of a name; choose another"
            )

    @property
    def lake(self) -> Lake:
        return Lake(self.root / "lake")

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def archive(self) -> Path:
        """What was downloaded of hosts' archives, and can be downloaded again."""
        return self.root / "archive"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    def quarantine_path(self, stream: str, window: Window) -> Path:
        """Where the messages of a window that could not be read are kept."""
        return self.quarantine_folder(stream) / hour_folder(window.start) / "messages.parquet"

    def segment_quarantine_path(self, stream: str, segment: str) -> Path:
        """Where the rows of an archive's segment that could not be read are kept."""
        return self.quarantine_folder(stream) / f"segment={segment}" / "messages.parquet"

    def quarantine_folder(self, stream: str) -> Path:
        """Where a stream's or a queue's messages are kept that could not be read."""
        return self.quarantine / check_name(stream)

    @property
    def queues(self) -> Path:
        return self.root / "queues"

    @property
    def cache(self) -> Cache:
        """What was fetched from the network and can be fetched again."""
        return Cache(self.root / "cache")

    @property
    def warehouse(self) -> Path:
        return self.root / "jetstream.duckdb"

    @property
    def handles(self) -> Path:
        """Which handle was whose, when, and who said so."""
        return self.root / "handles.jsonl"
