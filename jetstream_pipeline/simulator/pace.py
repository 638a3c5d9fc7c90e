"""How fast a host sends: so many events a second to all of its subscribers together. A connection that is slow by
itself is a fault (`faults.Slow`)."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Turns that are handed out one after the other, to whoever asks next."""

    def __init__(self, events_per_second: float | None) -> None:
        if events_per_second is not None and not events_per_second > 0:
            raise ValueError(f"events_per_second={events_per_second}: a host that sends nothing is a fault")
        self._each = 1 / events_per_second if events_per_second else 0.0
        self._free_at = 0.0

    async def turn(self, events: int) -> None:
        """Wait until so many events may be sent."""
        if not self._each:
            return
        begin = max(self._free_at, time.monotonic())
        self._free_at = begin + events * self._each
        await asyncio.sleep(begin - time.monotonic())
