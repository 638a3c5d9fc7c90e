"""Which host a replay begins with, so that replays at the same time spread over the hosts: an old host sends to one
address only so much, over all of its connections. Whose turn it is after that is `jetstream.turns`'s, and how many
replays there are at a time, the caller's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.storage.files import locked, make_directory

_NAME_CHARS = 200
"""Of a lock's file. Hosts whose names share a file count as one."""


class _Led(PipelineError):
    """Another replay has begun with the host."""


@contextmanager
def leading(hosts: Sequence[Host], folder: Path) -> Iterator[tuple[Host, ...]]:
    """The hosts, first the one that fewest other users of `folder` begin with until the body ends; the others in their
    order.

    Of those that are as free, the first. A dead process begins with none. InvalidInput where there are no hosts,
    StorageError where the locks' files in `folder` cannot be used.
    """
    if not hosts:
        raise InvalidInput("name at least one host")
    make_directory(folder)
    with ExitStack() as held:
        leader = _lead(hosts, folder, held)
        yield (hosts[leader], *hosts[:leader], *hosts[leader + 1 :])


def _lead(hosts: Sequence[Host], folder: Path, held: ExitStack) -> int:
    """The place of the host that is begun with, one of whose locks is `held` from now on: its first, its second, …"""
    for number in itertools.count():
        for place, host in enumerate(hosts):
            name = f"{quote(host.name, safe='')[:_NAME_CHARS]}.{number}.lock"
            try:
                held.enter_context(locked(folder / name, _Led(host.name)))
            except _Led:
                continue
            return place
    raise AssertionError("some lock is free")
