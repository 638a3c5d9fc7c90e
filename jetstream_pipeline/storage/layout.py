"""The data directory: which room of it lies where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.storage.lake import Lake


@dataclass(frozen=True)
class DataDirectory:
    """The paths below `JETSTREAM_DATA_DIR`."""

    root: Path

    @property
    def lake(self) -> Lake:
        return Lake(self.root / "lake")

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def warehouse(self) -> Path:
        return self.root / "jetstream.duckdb"
