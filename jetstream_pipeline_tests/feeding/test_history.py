"""Whatever becomes of a window, and wherever its feedings die: each chosen event enters once, in stream order."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jetstream_pipeline import Queue
from jetstream_pipeline.feeding import feeding
from jetstream_pipeline.feeding.fed_list import FedList
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.feeding.feeding import feed_window
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.items import QueueItem
from jetstream_pipeline_tests.feeding.contents import contain, numbers
from jetstream_pipeline_tests.queue_places import delete
from jetstream_pipeline_tests.windows import HOUR

_BATCH_ITEMS = 2
_GROUP_ROWS = 3
EVERY, CREATES, DELETES = (Feed("work", operations=names) for names in ((), ("create",), ("delete",)))
CONTENTS = st.lists(st.integers(0, 12), unique=True, min_size=1)
FEEDS = st.sampled_from([EVERY, EVERY, CREATES, DELETES])


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def crashing(after: int | None) -> Iterator[None]:
    """Crash at this durable step, each of which can be died before and after."""
    left = -1 if after is None else after

    def dying(real: Any) -> Any:
        def method(*arguments: Any, **named: Any) -> Any:
            passed()
            result = real(*arguments, **named)
            passed()
            return result

        def passed() -> None:
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1

        return method

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeding, "_BATCH_ITEMS", _BATCH_ITEMS)
        patch.setattr(feeding, "_KNOWN_AT_ONCE", 3)
        patch.setattr(feeding, "_ROWS_AT_ONCE", 2)
        for owner, name in ((FedList, "write"), (Queue, "batch_add_items_to_queue")):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        yield


def added(after: int) -> int:
    """Events added by who dies at this step: 0 and 1 are before and after the plan, 2 and 3 before and after the first
    batch, and so on."""
    return (after - 1) // 2 * _BATCH_ITEMS if after else 0


@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("content", [[9, 4, 1, 8, 0], [0, 1, 2, 3, 4, 5], [7]])
@pytest.mark.usefixtures("queue_place")
def test_dying_at_each_step_and_then_at_the_next_attempt(after: int, content: list[int], data: DataDirectory) -> None:
    contain(data, range(6), _GROUP_ROWS)
    with pytest.raises(Crash), crashing(after):
        feed_window("network", HOUR, EVERY, data)
    expected = list(range(added(after)))
    contain(data, content, _GROUP_ROWS)
    new = [number for number in content if number not in expected]
    with suppress(Crash), crashing(3):
        feed_window("network", HOUR, EVERY, data)
    with crashing(None):
        fed = feed_window("network", HOUR, EVERY, data)
    assert fed.added + fed.known == len(content)
    assert numbers(Queue("work", data_dir=data.root).peek(None)) == expected + new


class FeedingMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.data = DataDirectory(Path(self.folder.name))
        delete(Queue("work", True, data_dir=self.data.root))
        self.queue = Queue("work", True, data_dir=self.data.root)
        self.taken: list[QueueItem] = []
        self.expected: list[int] = []
        self.content: list[int] = []

    @rule(content=CONTENTS, after=st.none() | st.integers(0, 8), feed=FEEDS)
    def replace_and_feed(self, content: list[int], after: int | None, feed: Feed) -> None:
        self.content = content
        contain(self.data, content, _GROUP_ROWS)
        self.feed_again(after, feed)

    @rule(more=CONTENTS, after=st.none() | st.integers(0, 8), feed=FEEDS)
    def grow_and_feed(self, more: list[int], after: int | None, feed: Feed) -> None:
        self.replace_and_feed(self.content + [number for number in more if number not in self.content], after, feed)

    @rule(after=st.none() | st.integers(0, 8), feed=FEEDS)
    def feed_again(self, after: int | None, feed: Feed) -> None:
        """`after`: the durable step at which it dies, if it comes to that."""
        if not self.content:
            return
        chosen, new = self.chosen(feed)
        try:
            with crashing(after):
                fed = feed_window("network", HOUR, feed, self.data)
        except Crash:
            assert after is not None
            self.expected += new[: added(after)]
        else:
            assert (fed.added, fed.known, fed.chosen) == (len(new), len(chosen) - len(new), len(chosen))
            self.expected += new

    def chosen(self, feed: Feed) -> tuple[list[int], list[int]]:
        """What of the window is for the queue, and what of that is not in yet."""
        wanted = {"create": 0, "delete": 1}
        chosen = [n for n in self.content if n % 2 in [wanted[name] for name in feed.operations or wanted]]
        return chosen, [number for number in chosen if number not in self.expected]

    @rule(number=st.integers(0, 4))
    def acknowledge(self, number: int) -> None:
        items = self.queue.claim(number)
        self.queue.ack(items)
        self.taken += items

    @precondition(lambda self: self.expected)
    @rule()
    def delete_the_queue(self) -> None:
        delete(self.queue)
        self.queue = Queue("work", True, data_dir=self.data.root)
        self.taken, self.expected = [], []

    @invariant()
    def each_is_in_once_and_in_order(self) -> None:
        assert numbers([*self.taken, *self.queue.peek(None)]) == self.expected

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


@pytest.mark.usefixtures("queue_place")
def test_whatever_happens_each_event_enters_once() -> None:
    run_state_machine_as_test(
        FeedingMachine,
        settings=settings(max_examples=12, stateful_step_count=10, suppress_health_check=list(HealthCheck)),
    )
