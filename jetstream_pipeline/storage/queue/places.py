"""Where queues are kept: in files of the data directory, or in the database that is configured."""

from __future__ import annotations

from pathlib import Path

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.files.store import FileStore, names
from jetstream_pipeline.storage.queue.store import Clock, Place, Store


def place(data_dir: Path | str | None = None) -> Place:
    """The database that `JETSTREAM_QUEUES` names; where it names none, a data directory, default `JETSTREAM_DATA_DIR`.

    InvalidInput where it names something else, or what reads such a database is not installed.
    """
    settings = Settings.read()
    address = settings.queues.get_secret_value()
    if not address:
        return _Folder(DataDirectory(Path(data_dir) if data_dir else settings.data_dir).queues)
    try:
        from jetstream_pipeline.storage.queue.postgres.place import Database
    except ImportError as error:
        raise InvalidInput(
            f"JETSTREAM_QUEUES names a database, and {error.name} is not installed: "
            "pip install 'jetstream_pipeline[postgres]'"
        ) from None
    return Database(address)


class _Folder(Place):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def store(self, name: str, patience: float, clock: Clock | None = None) -> Store:
        return FileStore(self._folder, name, patience, clock)

    def names(self, patience: float) -> list[str]:
        """Other people's files may be there too."""
        return sorted(name for name in names(self._folder) if _is_name(name))


def _is_name(text: str) -> bool:
    try:
        return bool(check_name(text, "queue"))
    except InvalidInput:
        return False
