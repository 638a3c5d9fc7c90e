"""Work that goes on behind its giver: in one thread, in the order given, one piece at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Behind:
    """Takes so many pieces `ahead` of the one that is under way; who gives more waits.

    After a piece that failed none is done any more, and its error is raised wherever one is given or waited for.
    """

    def __init__(self, name: str, ahead: int = 0) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._ahead = ahead
        self._given: deque[Future[None]] = deque()
        self._has_failed = False

    def do(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, as soon as those before it are done."""
        self._wait_for_all_but(self._ahead)
        self._given.append(self._thread.submit(self._do, work))

    def _do(self, work: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            work()
        except BaseException:
            self._has_failed = True
            raise

    def wait(self) -> None:
        """Until all that was given is done."""
        self._wait_for_all_but(0)

    def _wait_for_all_but(self, number: int) -> None:
        while len(self._given) > number:
            self._given[0].result()
            self._given.popleft()

    def close(self) -> None:
        """Let what was given be done, and end."""
        self._thread.shutdown()
