"""What lies beyond the reach of hosts' streams: from the first archive that has it, as parts of the stream."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.client_errors import NoArchive, NotAllowed
from jetstream_pipeline.archive.errors import ArchiveError
from jetstream_pipeline.archive.history import History, Stretch
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream.errors import Gap, Refused
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.resumption import FIRST_TIME_CURSOR, Resumption
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.window import from_us

_REACH_US = 36 * 3_600_000_000
"""How far back a stream reaches on the hosts that have an archive, where nobody chose otherwise. What is younger comes
from the stream first: an archive loses what is deleted."""


class Archives:
    """The archives of a stream's hosts, in the order of fail-over. Each is read once."""

    def __init__(
        self,
        hosts: Sequence[Host],
        subscription: Subscription,
        access: Access | None,
        note: Callable[[str], None],
        on_beginning: Callable[[Gap, bool], None],
    ) -> None:
        """`on_beginning` is told of each one that is read where it begins, beside what it is asked for, and whether
        anything came before it."""
        self._note = note
        self._on_beginning = on_beginning
        self._left = [History(host, subscription, access) for host in hosts] if access else []
        self._asked: list[History] = []
        self._failure: ArchiveError | Refused | None = None

    @property
    def read(self) -> list[Stretch]:
        """What came from them so far, in order."""
        return [history.read for history in self._asked if history.read]

    @property
    def are_left(self) -> bool:
        """Whether there are any that were not read yet."""
        return bool(self._left)

    def are_due(self, cursor: int | None) -> bool:
        """Whether a stream from `cursor` on begins with what only archives have."""
        return cursor is not None and FIRST_TIME_CURSOR <= cursor < reach_us() and bool(self._left)

    async def parts(
        self, resumption: Resumption, until_us: int | None, else_us: int | None
    ) -> AsyncGenerator[tuple[Host, Part], None]:
        """From where the stream stands, as far as it is sealed, or until some events came that are later than
        `until_us`: those are there whatever the filter.

        Hosts without an archive, or with one that is closed to us, are passed over, and while there are others, so is
        one that fails. One that begins after where the stream stands is read if none reaches back to there, and it
        begins before `else_us`: what streams have. None: they may have all of it. ArchiveError or Refused where one
        failed, none was read to its end, and streams do not have all of it.
        """
        while (history := await self._next(resumption, else_us)) is not None:
            self._asked.append(history)
            try:
                async with aclosing(self._parts_of(history, resumption, until_us)) as parts:
                    async for part in parts:
                        yield history.host, part
            except NoArchive:
                continue
            except (ArchiveError, Refused) as error:
                self._failed(error, begun=history.read is not None)
                continue
            if history.read:
                last_us = history.read.last_us
                resumption.reached(history.host, last_us)
                self._note(f"{history.host.name}'s archive was read to {from_us(last_us):%Y-%m-%d %H:%M} UTC")
                return
        if self._failure and else_us is not None:
            raise self._failure

    def _failed(self, error: ArchiveError | Refused, *, begun: bool = False) -> None:
        self._note(str(error))
        if begun or not isinstance(error, NotAllowed):
            self._failure = error

    async def _next(self, resumption: Resumption, else_us: int | None) -> History | None:
        """The first one that reaches back to where the stream stands, or the one that comes closest to that."""
        if resumption.is_of_one_host:
            del self._left[1:]
        late: dict[History, int] = {}
        for history in self._left.copy():
            cursor = resumption.cursor(history.host)
            try:
                begins_us = await history.look()
            except (ArchiveError, Refused) as error:
                begins_us = None
                if not isinstance(error, NoArchive):
                    self._failed(error)
            if begins_us is None or cursor is None:
                self._left.remove(history)
            elif begins_us <= cursor or cursor < FIRST_TIME_CURSOR:
                self._left.remove(history)
                return history
            elif else_us is not None and begins_us < else_us:
                late[history] = begins_us
        if not late:
            if else_us is not None:
                self._left.clear()
            return None
        earliest = min(late, key=lambda history: late[history])
        self._left.remove(earliest)
        return earliest

    async def _parts_of(
        self, history: History, resumption: Resumption, until_us: int | None
    ) -> AsyncGenerator[Part, None]:
        cursor, begun = resumption.cursor(history.host), resumption.begun
        assert cursor is not None, "it was chosen by where the stream stands"
        assert history.begins_us is not None, "it was looked at"
        is_time = cursor >= FIRST_TIME_CURSOR
        opening = resumption.opening(cursor) if is_time else None
        begins = Gap(history.host.name, cursor, history.begins_us) if is_time else None
        async with aclosing(history.parts(cursor, until_us)) as parts:
            async for part in parts:
                if begins:
                    self._on_beginning(begins, begun)
                    begins = None
                yield opening.trim(part) if opening else part
        if begins and history.read:
            self._on_beginning(begins, begun)
        if opening:
            yield opening.settle()


def reach_us() -> int:
    """How far back the streams of hosts are taken to reach, in unix microseconds."""
    return time.time_ns() // 1000 - _REACH_US
