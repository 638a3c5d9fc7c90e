"""Files that name repositories, one DID a line. What a DID is `jetstream.subscription` says."""

from __future__ import annotations

from pathlib import Path

from jetstream_pipeline.errors import InvalidInput


def read_dids(path: Path) -> list[str]:
    """The DIDs of a file: one a line, empty lines and # comments left out. InvalidInput where there is none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidInput(f"cannot read DIDs from {path}: {reason}") from None
    named = [line.split("#")[0].strip() for line in lines]
    if not any(named):
        raise InvalidInput(f"{path} names no DID; write one a line")
    return [did for did in named if did]
