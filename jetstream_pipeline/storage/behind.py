"""Work that goes on behind its giver: in one thread, in the order given, one piece at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Behind:
    """After a piece that failed none is done any more, and its error is raised wherever one is given or waited for."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._under_way: Future[None] | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, as soon as the one before is done."""
        self.wait()
        self._under_way = self._thread.submit(work)

    def wait(self) -> None:
        """Until all that was given is done."""
        if self._under_way is not None:
            self._under_way.result()

    def close(self) -> None:
        """Let what was given be done, and end."""
        self._thread.shutdown()
