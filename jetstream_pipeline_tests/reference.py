"""Recordings of the real network, which lie beside the project on some machines."""

import os
from pathlib import Path

import pytest

_FOLDER = Path(os.environ.get("JETSTREAM_REFERENCE_DIR", Path(__file__).parents[2] / "shared" / "reference"))


def reference(name: str) -> Path:
    """A recording's path; skips the test where it is not there."""
    path = _FOLDER / name
    if not path.exists():
        pytest.skip(f"the recordings of the real network are not here ({name}); JETSTREAM_REFERENCE_DIR names them")
    return path
