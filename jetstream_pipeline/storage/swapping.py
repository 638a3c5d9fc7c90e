"""Replacing an object only where it still is what one has seen: how each store is asked for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jetstream_pipeline.storage import objects
from jetstream_pipeline.storage.places import STORES

if TYPE_CHECKING:
    from upath import UPath

_NOT_SO = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchKey", "404"}
"""What S3 says where the object is another one, or is being replaced right now."""


def swap(path: UPath, tag: str | None, content: bytes) -> bool:
    """Put a small object where the one there still has that tag (None: where there is none); whether it had.

    Where a request is repeated because its answer was lost, nobody may have been told of the swap: read it then.
    """
    with objects.told(path, "write"):
        try:
            if tag is None:
                path.fs.pipe_file(path.path, content, mode="create")
            else:
                _REPLACE[STORES[path.protocol].extra](path, tag, content)
        except FileExistsError:
            return False
        except Exception as error:
            if _is_refused(error):
                return False
            raise
    return True


def _replace_s3(path: UPath, tag: str, content: bytes) -> None:
    path.fs.pipe_file(path.path, content, IfMatch=tag)


def _replace_gcs(path: UPath, tag: str, content: bytes) -> None:
    """The library makes new objects on a condition, and replaces none."""
    bucket, _, name = path.path.partition("/")
    address = f"{path.fs._location}/upload/storage/v1/b/{quote(bucket)}/o"
    path.fs.call("POST", address, uploadType="media", name=name, ifGenerationMatch=tag, data=content)


def _replace_azure(path: UPath, tag: str, content: bytes) -> None:
    from azure.core import MatchConditions

    path.fs.pipe_file(path.path, content, etag=tag, match_condition=MatchConditions.IfNotModified)


_REPLACE = {"s3": _replace_s3, "gcs": _replace_gcs, "azure": _replace_azure}


def _is_refused(error: BaseException) -> bool:
    """S3's refusals are an OSError with the answer behind it; Azure's have the status."""
    answer: Any = getattr(error.__cause__, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else getattr(error, "status_code", None)
    return str(code) in _NOT_SO
