"""What is said of a stream as a whole: the filter that its windows have."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.files import content, replacing
from jetstream_pipeline.storage.places import AnyPath


class StreamFilter(BaseModel):
    """The collections, repositories and kinds that a stream lets through (empty: all), and their fingerprint."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fingerprint: str
    collections: tuple[str, ...] = ()
    dids: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


def read_filter(path: AnyPath) -> StreamFilter | None:
    """None where nothing is said; StorageError where it cannot be read."""
    text = content(path)
    if text is None:
        return None
    try:
        return StreamFilter.model_validate_json(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise StorageError(f"{path} does not say what the stream's filter is ({reason}); delete it") from error


def write_filter(path: AnyPath, said: StreamFilter) -> None:
    with replacing(path) as temporary:
        temporary.write_text(said.model_dump_json(indent=1) + "\n")
