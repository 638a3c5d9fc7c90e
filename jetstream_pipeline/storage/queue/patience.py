"""Waiting for others who use the same queue, for so long and no longer. What is waited for is the stores'."""

from __future__ import annotations

import random
import threading
import time

from jetstream_pipeline.storage.errors import StorageError

_SHORTEST_NAP = 0.5


class QueueBusy(StorageError):
    """Somebody else had the queue open for longer than we were willing to wait."""

    passing = True


class Patience:
    """How long one call waits for others, in whichever places."""

    def __init__(self, queue_name: str, seconds: float) -> None:
        self._queue_name = queue_name
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return min(max(0.0, self._deadline - time.monotonic()), threading.TIMEOUT_MAX)

    def ended(self, holder: str) -> QueueBusy:
        """What to raise where it has; `holder`: a process's number, or empty."""
        who = f"process {holder}" if holder else "somebody else"
        return QueueBusy(f"{who} holds the queue {self._queue_name} for more than {self._seconds:g} s; end it, or wait")

    def nap(self, seconds: float, holder: str) -> None:
        """Sleep for at most so long, or raise where patience has ended."""
        left = self.left
        if not left:
            raise self.ended(holder)
        time.sleep(min(left, seconds * random.uniform(_SHORTEST_NAP, 1.0)))
