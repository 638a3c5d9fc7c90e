"""Feeding a window into a queue: what enters, when nothing is to be done, and what is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jetstream_pipeline import JetstreamRecord, Queue
from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.feeding import feeding
from jetstream_pipeline.feeding.errors import FeedBusy, ListLost
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.feeding.feeding import Fed, Progress, feed_window
from jetstream_pipeline.storage.errors import Damaged, StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.queue import queues
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests import disks
from jetstream_pipeline_tests.feeding.contents import contain, numbers
from jetstream_pipeline_tests.hostile import identity
from jetstream_pipeline_tests.queue_places import delete as remove
from jetstream_pipeline_tests.windows import HOUR, commit, store

FEED = Feed("work")


def feed(data: DataDirectory, feed: Feed = FEED) -> Fed:
    return feed_window("network", HOUR, feed, data)


def fed_list(data: DataDirectory, queue: str = "work") -> Path:
    return data.queues / f"fed/{queue}/network/date=2026-07-04/hour=14/fed.parquet"


def held(data: DataDirectory, queue: str = "work") -> list[int]:
    return numbers(Queue(queue, data_dir=data.root).peek(None))


@pytest.mark.usefixtures("queue_place")
def test_an_item_is_the_event_and_its_metadata_says_where_it_comes_from(data: DataDirectory) -> None:
    record = '{"text":"half: \\ud83e, none: \\u0000, \\u00e9","a":' + '{"a":' * 300 + "1" + "}" * 301
    store(data, [commit(record), identity(HOUR.start_us + 1, 7).encode()])
    assert feed(data).added == 2
    first, second = Queue("work", data_dir=data.root).peek(None)
    assert record in first.payload
    event = JetstreamRecord.from_json(first.payload)
    assert (event.time_us, event.uri) == (HOUR.start_us, "at://did:plc:a0/app.bsky.feed.post/k0")
    assert event.commit
    assert event.commit.record == json.loads(record)
    assert JetstreamRecord.from_json(second.payload).identity
    assert first.metadata == second.metadata == {"stream": "network", "window": "2026-07-04-14:00"}


@pytest.mark.usefixtures("queue_place")
def test_a_window_that_was_replaced_brings_only_what_was_not_in_before(data: DataDirectory) -> None:
    contain(data, [0, 2, 4])
    feed(data)
    queue = Queue("work", data_dir=data.root)
    queue.ack(queue.claim())
    contain(data, [1, 0, 3, 4, 5])
    fed = feed(data)
    assert (fed.added, fed.known, fed.chosen) == (3, 2, 5)
    assert held(data) == [1, 3, 5]


@pytest.mark.usefixtures("queue_place")
def test_another_filter_brings_what_the_first_one_left_out(data: DataDirectory) -> None:
    contain(data, range(6))
    feed(data, Feed("work", operations=("create",)))
    fed = feed(data)
    assert (fed.added, fed.known, fed.chosen) == (3, 3, 6)
    assert held(data) == [0, 2, 4, 1, 3, 5]
    fed = feed(data, Feed("work", operations=("delete",)))
    assert (fed.added, fed.known, fed.chosen) == (0, 3, 3)


def test_each_queue_stream_and_window_is_fed_for_itself(data: DataDirectory) -> None:
    following = Window(HOUR.end, HOUR.end + (HOUR.end - HOUR.start))
    for stream, window in (("network", HOUR), ("other", HOUR), ("network", following)):
        store(data, [commit("{}")], window, stream=stream)
        for name in ("work", "play"):
            assert feed_window(stream, window, Feed(name), data).added == 1
    assert held(data) == held(data, "play") == [0, 0, 0]
    assert queues(data.root) == ["play", "work"]
    assert list(fed_list(data).parent.iterdir()) == [fed_list(data)]


@pytest.mark.usefixtures("queue_place")
def test_what_was_fed_already_is_not_read_again(data: DataDirectory) -> None:
    contain(data, range(4))
    feed(data)
    window = data.lake.events_path("network", HOUR)
    disks.flip(window, 100)
    fed = feed(data)
    assert (fed.added, fed.known, fed.chosen) == (0, 4, 4)
    with pytest.raises(Damaged, match="replay the window"):
        feed(data, Feed("work", operations=("create",)))


def test_a_window_that_does_not_say_what_is_in_it_is_read(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    contain(data, range(4))
    monkeypatch.setattr(feeding, "read_summary", lambda path: read_summary(path).model_copy(update={"content": ""}))
    for added in (4, 0):
        assert feed(data).added == added
    contain(data, range(5))
    assert feed(data).added == 1


def test_a_window_that_is_replaced_while_it_is_fed_is_fed_as_it_was_and_then_as_it_is(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "_BATCH_ITEMS", 2)
    contain(data, range(6))

    def replace(progress: Progress) -> None:
        if progress.added == 2:
            contain(data, [0, 6, 5])

    feed_window("network", HOUR, FEED, data, on_progress=replace)
    assert held(data) == [0, 1, 2, 3, 4, 5]
    assert feed(data).added == 1
    assert held(data) == [0, 1, 2, 3, 4, 5, 6]


def test_a_window_that_is_replaced_before_it_is_opened_is_not_taken_for_the_one_it_was(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its summary was read already: what that says was never fed, and may come back."""
    contain(data, range(3))
    real = feeding.reading

    def replaced(path: Path) -> object:
        contain(data, [7])
        return real(path)

    monkeypatch.setattr(feeding, "reading", replaced)
    feed(data)
    monkeypatch.undo()
    assert held(data) == [7]
    contain(data, range(3))
    assert feed(data).added == 3


def test_batches_are_bounded_in_items_and_in_bytes(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "_BATCH_ITEMS", 3)
    monkeypatch.setattr(feeding, "_BATCH_BYTES", 2_000)
    told: list[Progress] = []
    texts = ["", "", "", "", "é" * 1_000, "", ""]
    store(data, [commit(f'{{"text":"{text}"}}', number=n) for n, text in enumerate(texts)])
    feed_window("network", HOUR, FEED, data, on_progress=told.append)
    assert [(progress.added, progress.planned) for progress in told] == [(3, 7), (5, 7), (7, 7)]


def test_nothing_chosen_is_no_failure(data: DataDirectory) -> None:
    contain(data, [0, 2])
    for _ in range(2):
        fed = feed(data, Feed("work", operations=("delete",)))
        assert (fed.added, fed.known, fed.chosen) == (0, 0, 0)
    assert feed(data).added == 2


def test_the_lake_must_hold_the_whole_window(data: DataDirectory) -> None:
    store(data, [commit("{}")], state=WindowState.TRUNCATED)
    with pytest.raises(InvalidInput, match=r"the lake holds no whole window network .*; replay it first"):
        feed(data)
    assert queues(data.root) == []


@pytest.mark.usefixtures("queue_place")
def test_a_queue_that_was_deleted_gets_everything_again(data: DataDirectory) -> None:
    contain(data, range(4))
    feed(data)
    remove(Queue("work", data_dir=data.root))
    assert feed(data).added == 4
    assert held(data) == [0, 1, 2, 3]


@pytest.mark.usefixtures("queue_place")
def test_a_queue_that_others_make_anew_meanwhile_is_not_taken_for_the_old_one(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "_BATCH_ITEMS", 2)
    contain(data, range(4))

    def make_anew(progress: Progress) -> None:
        remove(Queue("work", data_dir=data.root))
        Queue("work", create_new_queue=True, data_dir=data.root)

    with pytest.raises(FeedBusy, match=r"the queue work was replaced while .* was fed; try again") as told:
        feed_window("network", HOUR, FEED, data, on_progress=make_anew)
    assert told.value.passing
    assert feed(data).added == 4
    assert held(data) == [0, 1, 2, 3]


def delete(path: Path) -> None:
    path.unlink()


def take_for_another(path: Path) -> None:
    """Put the list of a queue there that was fed in another order."""
    data = DataDirectory(path.parents[6])
    contain(data, [3, 2, 1, 0])
    feed(data, Feed("other"))
    os.replace(fed_list(data, "other"), path)


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (delete, ListLost),
        (take_for_another, ListLost),
        (disks.empty, Damaged),
        (disks.truncate, Damaged),
        (lambda path: disks.flip(path, 60), Damaged),
    ],
)
def test_a_list_that_is_lost_is_told_and_nothing_is_added_twice(
    harm: Callable[[Path], None], error: type[PipelineError], data: DataDirectory
) -> None:
    contain(data, range(4))
    feed(data)
    harm(fed_list(data))
    contain(data, range(5))
    with pytest.raises(error, match=r"fed\.parquet.*; put it back from a copy, or feed another queue") as told:
        feed(data)
    assert "\n" not in str(told.value)
    assert held(data) == [0, 1, 2, 3]
    assert feed(data, Feed("another")).added == 5


@pytest.mark.parametrize("harm", [delete, disks.empty, take_for_another])
def test_a_list_whose_queue_is_new_is_not_needed(harm: Callable[[Path], None], data: DataDirectory) -> None:
    contain(data, range(4))
    feed(data)
    harm(fed_list(data))
    Queue("work", data_dir=data.root).path.unlink()
    assert feed(data).added == 4


@pytest.mark.usefixtures("queue_place")
def test_a_mark_that_is_none_is_told(data: DataDirectory) -> None:
    contain(data, range(4))
    feed(data)
    queue = Queue("work", data_dir=data.root)
    queue.batch_add_items_to_queue([], bookmark=("feed:network:2026-07-04-14:00", '{"fed":-1}'))
    with pytest.raises(ListLost, match="the queue work does not say how much of feed:network:2026-07-04-14:00 it has"):
        feed(data)


@pytest.mark.usefixtures("queue_place")
def test_another_run_at_the_same_window_is_told_and_passes(data: DataDirectory) -> None:
    contain(data, range(4))
    told: list[FeedBusy] = []

    def another(progress: Progress) -> None:
        with pytest.raises(FeedBusy, match=r"another run feeds network .* into the queue work; wait") as busy:
            feed(data)
        told.append(busy.value)
        assert feed(data, Feed("other")).added == 4

    feed_window("network", HOUR, FEED, data, on_progress=another)
    assert [busy.passing for busy in told] == [True]
    assert feed(data).added == 0


def test_what_whoever_is_told_of_progress_raises_comes_through(data: DataDirectory) -> None:
    contain(data, range(4))

    def refuse(progress: Progress) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        feed_window("network", HOUR, FEED, data, on_progress=refuse)
    assert feed(data).added == 0
    assert held(data) == [0, 1, 2, 3]


def test_a_full_disk_is_told_and_gone_on_from(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    contain(data, range(4))
    data.queues.mkdir()
    with disks.small(data.queues, kilobytes=1_500):
        Queue("work", create_new_queue=True, data_dir=tmp_path)
        ballast = data.queues / "ballast"
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(bytes(2_000_000))
        with pytest.raises(StorageError, match="No space left on device"):
            feed(data)
        ballast.unlink()
        assert feed(data).added == 4
        assert held(data) == [0, 1, 2, 3]
