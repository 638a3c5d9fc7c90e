"""Each window's chosen events enter the queues that the stream names, once, whatever happens to the window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
import pytest

from jetstream_pipeline import JetstreamRecord, Queue
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline_tests.orchestration.driving import EVENTS, Driver, declared, failure_of, plain, told
from jetstream_pipeline_tests.windows import HOUR, commit, delete, store

LIKE = "app.bsky.feed.like"
QUEUES = [
    {"name": "new_posts", "collections": ["app.bsky.feed.post"], "operations": ["create"]},
    {"name": "likes_of", "collections": [LIKE]},
    {"name": "of_two", "dids": ["did:plc:a0", "did:plc:a4"], "kinds": ["commit"]},
]


@pytest.fixture
def dagster(data: DataDirectory) -> Iterator[Driver]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Driver(declared(data, first=HOUR, queues=QUEUES, tables=[], report=False), instance)


def lands(dagster: Driver, numbers: Sequence[int], *more: bytes) -> None:
    """The window with these events: a post, a post's delete, or a like, by turns; and more of them."""
    messages = [(commit("{}", number=n), delete(number=n), commit("{}", LIKE, number=n))[n % 3] for n in numbers]
    store(dagster.stream.data, [*messages, *more])
    told(dagster.instance, HOUR, read_summary(dagster.stream.data.lake.events_path("network", HOUR)).content)


def held(dagster: Driver, queue: str) -> list[int]:
    items = Queue(queue, data_dir=dagster.stream.settings.data_dir).peek(None)
    ordered = sorted(items, key=lambda item: item.id)
    return [int(JetstreamRecord.from_json(item.payload).did.removeprefix("did:plc:a")) for item in ordered]


@pytest.mark.usefixtures("queue_place")
def test_each_queue_gets_what_its_filter_chooses_once(dagster: Driver) -> None:
    lands(dagster, range(9))
    assert dagster.consume("new_posts") == dagster.consume("likes_of") == {HOUR.key: True}
    assert (held(dagster, "new_posts"), held(dagster, "likes_of")) == ([0, 3, 6], [2, 5, 8])
    assert dagster.consume("new_posts") == dagster.consume("likes_of") == {}


def test_a_queue_of_accounts_and_kinds_gets_no_others(dagster: Driver) -> None:
    body = '"identity":{"did":"did:plc:a0","handle":"alice.test","seq":1,"time":"2026-07-04T14:00:00Z"}'
    identity = f'{{"did":"did:plc:a0","time_us":{HOUR.start_us + 9},"kind":"identity",{body}}}'
    lands(dagster, range(9), identity.encode())
    assert dagster.consume("of_two") == {HOUR.key: True}
    assert held(dagster, "of_two") == [0, 4]


def test_a_run_says_what_it_added(dagster: Driver) -> None:
    lands(dagster, range(9))
    assert dagster.consume("new_posts") == {HOUR.key: True}
    (fed,) = dagster.materializations("new_posts")
    metadata = plain(fed.metadata)
    assert 0 <= metadata.pop("seconds") < 60
    assert metadata == {
        "dagster/partition_row_count": 3,
        "added": 3,
        "added_before": 0,
        "queue": str(dagster.stream.data.queues / "new_posts.duckdb"),
    }


def test_the_same_window_again_adds_nothing(dagster: Driver) -> None:
    lands(dagster, range(9))
    assert dagster.consume("new_posts") == {HOUR.key: True}
    lands(dagster, range(9))
    assert dagster.consume("new_posts") == {}
    # Also where Dagster has forgotten what was consumed, and where a run is launched by hand.
    told(dagster.instance, HOUR, "")
    assert dagster.consume("new_posts") == {HOUR.key: True}
    assert held(dagster, "new_posts") == [0, 3, 6]
    assert plain(dagster.materializations("new_posts")[-1].metadata)["added"] == 0


def test_a_window_with_more_events_adds_those(dagster: Driver) -> None:
    lands(dagster, range(6))
    assert dagster.consume("new_posts") == {HOUR.key: True}
    queue = Queue("new_posts", data_dir=dagster.stream.settings.data_dir)
    queue.ack(queue.claim())
    lands(dagster, range(12))
    assert dagster.consume("new_posts") == {HOUR.key: True}
    assert held(dagster, "new_posts") == [6, 9], "what was acknowledged does not come back"
    metadata = plain(dagster.materializations("new_posts")[-1].metadata)
    assert (metadata["dagster/partition_row_count"], metadata["added"], metadata["added_before"]) == (4, 2, 2)


def test_a_broken_queue_touches_no_other_and_goes_on_when_it_is_mended(dagster: Driver) -> None:
    lands(dagster, range(6))
    assert dagster.consume("new_posts") == dagster.consume("likes_of") == {HOUR.key: True}
    path = dagster.stream.data.queues / "new_posts.duckdb"
    sound = path.read_bytes()
    path.write_bytes(b"garbage" * 1000)
    lands(dagster, range(12))
    (request,) = dagster.look("network_new_posts_for_new_windows")
    assert "new_posts" in failure_of(dagster.run("network_new_posts", request))
    assert dagster.consume("likes_of") == {HOUR.key: True}
    assert held(dagster, "likes_of") == [2, 5, 8, 11]
    path.write_bytes(sound)
    told(dagster.instance, HOUR, "again")
    assert dagster.consume("new_posts") == {HOUR.key: True}
    assert held(dagster, "new_posts") == [0, 3, 6, 9]


def test_a_queue_is_an_asset_below_the_events(dagster: Driver) -> None:
    asset = dagster.definitions.resolve_assets_def(dg.AssetKey(["network", "new_posts"]))
    (spec,) = asset.specs
    assert [dep.asset_key for dep in spec.deps] == [EVENTS]
    assert spec.metadata["collections"] == "app.bsky.feed.post"
    every = dagster.definitions.resolve_assets_def(dg.AssetKey(["network", "of_two"]))
    assert [spec.metadata["collections"] for spec in every.specs] == ["all"]
