"""A mapping whose contents outlive the process."""

from pathlib import Path

import pytest

from jetstream_pipeline.storage.cache import Cache


def test_what_one_process_keeps_another_finds(tmp_path: Path) -> None:
    Cache(tmp_path / "cache")["a.zdict"] = b"one"
    Cache(tmp_path / "cache")["a.zdict"] = b"other"
    cache = Cache(tmp_path / "cache")
    assert dict(cache) == {"a.zdict": b"other"}
    del cache["a.zdict"]
    assert "a.zdict" not in Cache(tmp_path / "cache")
    with pytest.raises(KeyError):
        del cache["a.zdict"]
