"""What lies beyond the reach of hosts' streams: from the first archive that has it, as parts of the stream."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.client_errors import NoArchive, NotAllowed
from jetstream_pipeline.archive.history import History, Stretch
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream.errors import Gap
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.resumption import FIRST_TIME_CURSOR, Resumption
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.window import from_us

_REACH_US = 36 * 3_600_000_000
"""How far back a stream reaches on the hosts that have an archive, where nobody chose otherwise. What is younger comes
from the stream first: an archive loses what is deleted."""


class Archives:
    """The archives of a stream's hosts, in the order of fail-over. Each is asked once."""

    def __init__(
        self, hosts: Sequence[Host], subscription: Subscription, access: Access | None, note: Callable[[str], None]
    ) -> None:
        self._subscription = subscription
        self._access = access
        self._note = note
        self._left = list(hosts) if access else []
        self._asked: list[History] = []
        self.begins: Gap | None = None
        """Where the history of the one begins that a stream began with, beside what it was asked for."""

    @property
    def read(self) -> list[Stretch]:
        """What came from them so far, in order."""
        return [history.read for history in self._asked if history.read]

    def are_due(self, cursor: int | None) -> bool:
        """Whether a stream from `cursor` on begins with what only archives have."""
        is_old = cursor is not None and FIRST_TIME_CURSOR <= cursor < time.time_ns() // 1000 - _REACH_US
        return is_old and bool(self._left)

    async def parts(self, resumption: Resumption, until_us: int | None) -> AsyncGenerator[tuple[Host, Part], None]:
        """From where the stream stands, as far as it is sealed, or until some events came that are later than
        `until_us`: those are there whatever the filter.

        Hosts without an archive, or with one that is closed to us, are passed over. ArchiveError where one fails.
        """
        while self._left and self._access:
            host = self._left.pop(0)
            cursor = resumption.cursor(host)
            if cursor is None:
                return
            history = History(host, self._subscription, self._access)
            self._asked.append(history)
            try:
                async with aclosing(self._parts_of(history, resumption, cursor, until_us)) as parts:
                    async for part in parts:
                        yield host, part
            except NoArchive:
                continue
            except NotAllowed as error:
                self._note(str(error))
            if history.read:
                self._note(f"{host.name}'s archive was read to {from_us(history.read.last_us):%Y-%m-%d %H:%M} UTC")
                return

    async def _parts_of(
        self, history: History, resumption: Resumption, cursor: int, until_us: int | None
    ) -> AsyncGenerator[Part, None]:
        begun = resumption.begun
        opening = None if begun else resumption.opening(cursor)
        async with aclosing(history.parts(cursor, until_us)) as parts:
            async for part in parts:
                if not begun and self.begins is None and history.begins_us is not None:
                    self.begins = Gap(history.host.name, cursor, history.begins_us)
                yield opening.trim(part) if opening else part
        if opening:
            yield opening.settle()
