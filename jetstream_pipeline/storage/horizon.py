"""From where on a stream's data is kept: what lies before it was deleted on purpose, and is not missing."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import content, replacing
from jetstream_pipeline.storage.places import AnyPath


class Horizon(BaseModel):
    """The start of the oldest hour that is kept of the events, and of the typed tables; None: nothing was deleted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    events: AwareDatetime | None = None
    tables: AwareDatetime | None = None

    @property
    def derived(self) -> datetime | None:
        """From where on tables can be derived: the later of the two."""
        return max(filter(None, (self.events, self.tables)), default=None)


def read_horizon(path: AnyPath) -> Horizon:
    """StorageError where it cannot be read."""
    text = content(path)
    if text is None:
        return Horizon()
    try:
        return Horizon.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise StorageError(f"{path} does not say from where on the stream is kept ({reason}); delete it") from error


def write_horizon(path: AnyPath, horizon: Horizon) -> None:
    with replacing(path) as temporary:
        temporary.write_text(horizon.model_dump_json(indent=1) + "\n")
