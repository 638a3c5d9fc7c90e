"""Work that goes on behind its giver: in one thread, in the order given, a bounded number of pieces at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_AT_ONCE = 2


class Behind:
    """After a piece that failed none is done any more, and its error is raised wherever one is given or waited for."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._under_way: deque[Future[None]] = deque()
        self._error: BaseException | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, or wait until there is room for it."""
        while len(self._under_way) >= _AT_ONCE:
            self._under_way.popleft().result()
        self._under_way.append(self._thread.submit(self._do, work))

    def _do(self, work: Callable[[], None]) -> None:
        if self._error is not None:
            raise self._error
        try:
            work()
        except BaseException as error:
            self._error = error
            raise

    def wait(self) -> None:
        """Until all that was given is done."""
        while self._under_way:
            self._under_way.popleft().result()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let what was given be done, and end."""
        self._thread.shutdown()
