"""The data directory: which room of it lies where, and where the lake does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.cache import Cache
from jetstream_pipeline.storage.hive import hour_folder
from jetstream_pipeline.storage.lake import Lake, check_name
from jetstream_pipeline.storage.places import AnyPath
from jetstream_pipeline.window import Window

_ODD = "=?\\\n"
"""An equals sign in a folder's name makes a column of it; the others do not come through DuckDB's paths."""


@dataclass(frozen=True)
class DataDirectory:
    """The paths below `JETSTREAM_DATA_DIR`, and those of the lake, which may lie elsewhere (`JETSTREAM_LAKE`)."""

    root: Path
    lake_root: AnyPath | None = None
    """None: in the data directory."""

    def __post_init__(self) -> None:
        _check(self.root, "data directory's")
        if isinstance(self.lake_root, Path):
            _check(self.lake_root, "lake's")

    @property
    def lake(self) -> Lake:
        return Lake(self.lake_root or self.root / "lake")

    @property
    def shown(self) -> str:
        """Where the lake lies, as one would name it: by the data directory where it lies there."""
        return str(self.root if self.lake_root is None else self.lake_root)

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def archive(self) -> Path:
        """What was downloaded of hosts' archives, and can be downloaded again."""
        return self.root / "archive"

    @property
    def quarantine(self) -> AnyPath:
        """Beside the windows where those are in an object store: this machine may be gone tomorrow."""
        if self.lake_root is None or isinstance(self.lake_root, Path):
            return self.root / "quarantine"
        return self.lake_root / "_quarantine"

    def quarantine_path(self, stream: str, window: Window) -> AnyPath:
        """Where the messages of a window that could not be read are kept."""
        return self.quarantine_folder(stream) / hour_folder(window.start) / "messages.parquet"

    def segment_quarantine_path(self, stream: str, segment: str) -> AnyPath:
        """Where the rows of an archive's segment that could not be read are kept."""
        return self.quarantine_folder(stream) / f"segment={segment}" / "messages.parquet"

    def quarantine_folder(self, stream: str) -> AnyPath:
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


def _check(path: Path, whose: str) -> None:
    odd = sorted(set(str(path.resolve())) & set(_ODD))
    if odd:
        raise InvalidInput(
            f"the {whose} path {path} has {' '.join(map(repr, odd))} in it, which DuckDB does not take for part of a "
            "name; choose another"
        )
