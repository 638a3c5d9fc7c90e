"""Whose turn it is to serve a stream: which host is asked next, after what pause, and when all of them have failed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from jetstream_pipeline.jetstream.errors import Busy, HistoryMissing, JetstreamError, Refused, Stalled
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Server

_MAX_ROUNDS = 6
_MAX_FIRST_ROUNDS = 4
"""Fewer before any host was reached: a wrong address should be told soon."""
_MAX_BUSY_ROUNDS = 10
_FIRST_PAUSE_SEC = 0.2
_MAX_PAUSE_SEC = 10.0


class Turns:
    """Takes hosts in their order, back to the first after the last, until one serves."""

    def __init__(self, servers: Sequence[Server], persistent: bool) -> None:
        """`persistent`: ask for ever once a host was reached."""
        self._servers = servers
        self._persistent = persistent
        self._turn = 0
        self._failures = 0
        self._missing: dict[Server, HistoryMissing] = {}
        self.excused: Server | None = None
        """The host whose missing history is taken as it is, since nobody has more."""
        self.begins_us = 0
        """When that history begins, in unix microseconds."""

    @property
    def current(self) -> Server:
        return self._servers[self._turn]

    def prefer(self, host: Host) -> None:
        """Turn to a host: what came last came from it by other means."""
        self._turn = next((turn for turn, server in enumerate(self._servers) if server.host == host), self._turn)

    def served(self) -> None:
        """The current host brought something new."""
        self._failures = 0

    async def turn(self, error: JetstreamError | Refused, reached: bool, alone: bool) -> None:
        """Turn to the next host: at once, or after a growing, jittered pause when all of them were asked.

        `reached`: any host was, so far. `alone`: no other host than the current one would do. Raises what the hosts
        answered where all of them refuse, `error` where they were asked often enough.
        """
        server = self.current
        if isinstance(error, HistoryMissing):
            self._missing[server] = error
        if server.refused and (alone or all(one.refused for one in self._servers)):
            raise self._servers[0].refused or error
        willing = [server] if alone else [one for one in self._servers if not one.refused]
        later = [one for one in willing if self._servers.index(one) > self._turn]
        self._turn = self._servers.index((later or willing)[0])
        if self._missing and all(one in self._missing for one in willing):
            self._excuse()
            return
        self._failures += 1
        rounds, asked = divmod(self._failures, len(willing))
        limit = self._limit(error, reached)
        if limit is not None and rounds >= limit:
            if not self._missing:
                raise error
            self._excuse()
        if rounds and not asked and not isinstance(error, Stalled):
            pause = min(_FIRST_PAUSE_SEC * 2 ** min(rounds - 1, 10), _MAX_PAUSE_SEC)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    def _excuse(self) -> None:
        """Go on with the host that has most, since nobody has all."""
        self.excused = min(self._missing, key=lambda server: self._missing[server].gap.begins_us)
        self.begins_us = self._missing[self.excused].gap.begins_us
        self._turn = self._servers.index(self.excused)
        self._missing.clear()
        self._failures = 0

    def _limit(self, error: JetstreamError | Refused, reached: bool) -> int | None:
        """How often all hosts are asked in vain."""
        if reached:
            return None if self._persistent else _MAX_ROUNDS
        return _MAX_BUSY_ROUNDS if isinstance(error, Busy) else _MAX_FIRST_ROUNDS
