"""One websocket connection's life: messages in, bounded in bytes, until it ends. Resuming is the client's.

How a connection is opened belongs to `opening`; how its messages come in, to a transport.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine

from jetstream_pipeline.events.messages import AT_ONCE, Messages
from jetstream_pipeline.jetstream.intake import Intake

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
_BUFFER_BYTES = 16 * 1024 * 1024
_SILENCE_SEC = 20.0
"""Then a host is pinged."""
_ANSWER_SEC = 15.0
"""Then it is dead."""


class Declined(Exception):
    """A host answered the request for a websocket with something else."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


class Connection(ABC):
    """An open stream. `receive` hands over what has come; `ended` says why no more will.

    A transport adds messages to `_intake`, calls `_wake` where `_waiting` is set, and reads no further from `_limit`
    bytes on, until `_go_on` is called.
    """

    def __init__(self, intake: Intake) -> None:
        self.subprotocol: str | None = None
        """What the host agreed to."""
        self.ended: str | None = None
        self.oversized = False
        """Whether it ended because a message was larger than we take."""
        self._intake = intake
        self._limit = _BUFFER_BYTES
        self._waiting: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def bytes_received(self) -> int:
        """Of the messages that were handed over."""
        return self._intake.taken

    @property
    def _arrived_bytes(self) -> int:
        return self._intake.taken + self._intake.size

    async def receive(self, timeout: float) -> Messages:
        """The next messages that have come, in order; none after `timeout` seconds of silence or at the end."""
        if not (self._intake.count or self.ended is not None):
            await self._arrival(timeout)
        await self._gathering()
        if self._failure is not None:
            raise self._failure
        taken = self._intake.take(AT_ONCE)
        if self._intake.size < self._limit:
            self._go_on()
        return taken

    async def close(self) -> None:
        """Leave at once: a host in mid-replay would keep sending for as long as a polite farewell takes."""
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @abstractmethod
    async def send(self, text: str) -> None: ...

    @abstractmethod
    async def _ping(self) -> None:
        """Return when the host has answered."""

    @abstractmethod
    def _go_on(self) -> None:
        """There is room. Called again and again."""

    @abstractmethod
    def _abort(self) -> None: ...

    def _follow(self, *work: Coroutine[None, None, None]) -> None:
        """Watch, and do this work, until the end. What it raises is raised to whoever receives."""
        for coroutine in (self._watch(), *work):
            task = asyncio.create_task(coroutine)
            task.add_done_callback(self._finished)
            self._tasks.append(task)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
            self._end(repr(error))

    def _end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting and not waiting.done():
            waiting.set_result(None)

    async def _gathering(self) -> None:
        """While every turn of the loop brings more, until it is worth handing over: each batch has its price."""
        before = -1
        while before < self._intake.count < AT_ONCE:
            before = self._intake.count
            await asyncio.sleep(0)

    async def _arrival(self, timeout: float) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._waiting
        except TimeoutError:
            pass
        finally:
            self._waiting = None

    async def _watch(self) -> None:
        """Ping where nothing comes: whoever answers has nothing to say, whoever does not is gone."""
        while self.ended is None:
            before = self._arrived_bytes
            await asyncio.sleep(_SILENCE_SEC)
            if self._arrived_bytes != before or self._intake.size >= self._limit:
                continue
            try:
                async with asyncio.timeout(_ANSWER_SEC):
                    await self._ping()
            except TimeoutError:
                if self._arrived_bytes == before:
                    self._end(f"no sign of life for {_SILENCE_SEC + _ANSWER_SEC:g} s")
