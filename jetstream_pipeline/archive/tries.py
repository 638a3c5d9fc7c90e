"""How often something is tried, and how long is waited between: as the host asks, or longer each time."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from jetstream_pipeline.archive.client_errors import Later
from jetstream_pipeline.archive.errors import ArchiveError

Sleep = Callable[[float], Awaitable[None]]

_MAX_TRIES = 6
_PROGRESS_BYTES = 1024 * 1024
"""Whoever brings that much is not failing."""
_FIRST_PAUSE_SEC = 0.5
_MAX_PAUSE_SEC = 30.0
_MAX_RETRY_AFTER_SEC = 120.0


class Tries:
    """How often in a row something has failed."""

    def __init__(self, sleep: Sleep) -> None:
        self._sleep = sleep
        self._failed = 0
        self._came = 0

    def came(self, size: int) -> None:
        """So many bytes came that need not come again."""
        self._came += size
        if self._came >= _PROGRESS_BYTES:
            self._failed = self._came = 0

    async def pause(self, error: Later) -> None:
        """Wait as long as the host asks, or for a growing, jittered time; ArchiveError where that was often enough."""
        self._failed += 1
        if self._failed >= _MAX_TRIES:
            raise ArchiveError(f"{error}; tried {self._failed} times in a row") from None
        pause = min(_FIRST_PAUSE_SEC * 2 ** (self._failed - 1), _MAX_PAUSE_SEC) * random.uniform(0.5, 1.0)
        if error.pause_sec is not None:
            pause = min(max(error.pause_sec, pause), _MAX_RETRY_AFTER_SEC)
        await self._sleep(pause)


def retry_after_sec(headers: httpx2.Headers) -> float | None:
    """For how long the host asks to be left alone; None where it does not say.

    A date is read against the host's own clock where it tells that.
    """
    asked = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", asked):
        return float(asked)
    until = _date(asked)
    if until is None:
        return None
    return max(0.0, (until - (_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
