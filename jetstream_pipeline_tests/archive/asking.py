"""How the archive's tests ask a server, and what they keep of it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from jetstream_pipeline.archive import client
from jetstream_pipeline.archive.client import Archive
from jetstream_pipeline.archive.plans import Unit
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline_tests.archive.server import Segment, Server

T = TypeVar("T")
TOKEN = "the-token.that~nobody+sees"
ALL = Subscription()


class Pauses:
    """Instead of pausing."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def ask(
    server: Server, question: Callable[[Archive], Awaitable[T]], token: str | None = None, pauses: Pauses | None = None
) -> T:
    async def asking() -> T:
        async with Archive(server.host, token, sleep=pauses or Pauses()) as archive:
            return await question(archive)

    return asyncio.run(asking())


def fetch(server: Server, unit: Unit, target: Path, **options: client.Verify) -> None:
    ask(server, lambda archive: archive.fetch_segment(unit, target, **options))


def beginning(folder: Path, segment: Segment) -> Path:
    return folder / f".{segment.name}-{segment.checksum}.part"


def failure(server: Server, question: Callable[[Archive], Awaitable[object]], kind: type[Exception]) -> str:
    with pytest.raises(kind) as error:
        ask(server, question)
    assert "\n" not in str(error.value)
    return str(error.value).replace(server.host.name, "HOST")
