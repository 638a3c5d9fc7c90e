"""A queue whose clock stands still unless a test moves it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jetstream_pipeline import Queue

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock, queue_place: str) -> Queue:
    return Queue("work", create_new_queue=True, data_dir=tmp_path, max_attempts=3, clock=clock)
