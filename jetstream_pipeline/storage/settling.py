"""One at a time: whoever puts a stream's windows in their places, or takes them away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jetstream_pipeline.storage.files import locked, make_directory
from jetstream_pipeline.storage.lake import check_name
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.leases import leased


@contextmanager
def settling(data: DataDirectory, stream: str) -> Iterator[None]:
    """Only one window of a stream is put in its place at a time: neighbours settle who holds what lies between them.

    Where the lake is in an object store, on whichever machine they are: then LeaseLost, at the end, where others did
    not wait for this one.
    """
    root = data.lake.root
    if not isinstance(root, Path):
        with leased(root / "_leases" / f"{check_name(stream)}.json"):
            yield
        return
    folder = data.staging / check_name(stream)
    make_directory(folder)
    with locked(folder / "settling.lock"):
        yield
