"""Work that goes on behind its giver: in order, one piece at once, and nothing after a failure."""

import threading
from contextlib import closing

import pytest

from jetstream_pipeline.storage.behind import Behind


def test_pieces_are_done_in_the_order_given() -> None:
    done: list[int] = []
    with closing(Behind("test")) as behind:
        for number in range(20):
            behind.do(lambda number=number: done.append(number))
        behind.wait()
        assert done == list(range(20))


def test_who_gives_more_waits_for_what_is_under_way() -> None:
    go_on, given = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        go_on.wait()

    def give() -> None:
        for _ in range(2):
            behind.do(wait)
            given.release()

    with closing(Behind("test")) as behind:
        giver = threading.Thread(target=give)
        giver.start()
        assert given.acquire(timeout=60)
        assert not given.acquire(timeout=0.2)
        go_on.set()
        assert given.acquire(timeout=60)
        giver.join()


def test_nothing_is_done_after_a_failure_which_is_told_again_and_again() -> None:
    done: list[int] = []
    fail = threading.Event()

    def failing() -> None:
        fail.wait()
        raise OSError("no room")

    with closing(Behind("test")) as behind:
        behind.do(failing)
        fail.set()
        for _ in range(2):
            with pytest.raises(OSError, match="no room"):
                behind.wait()
            with pytest.raises(OSError, match="no room"):
                behind.do(lambda: done.append(1))
    assert not done
