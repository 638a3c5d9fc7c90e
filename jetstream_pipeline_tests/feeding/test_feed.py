"""Which events a feed chooses, and what makes two feeds the same."""

import pyarrow as pa
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline_tests.hostile import identity
from jetstream_pipeline_tests.windows import commit, delete

LIKE = "app.bsky.feed.like"
EVENTS: pa.RecordBatch = decode(
    [
        commit("{}", number=0),
        commit("{}", LIKE, number=1),
        delete(number=2),
        commit("{}", number=3).replace(b"create", b"update"),
        identity(4, 4).encode(),
    ],
    "host",
).events


@pytest.mark.parametrize(
    ("subscription", "operations", "chosen"),
    [
        (Subscription(), (), [0, 1, 2, 3, 4]),
        (Subscription(), ("create",), [0, 1, 4]),
        (Subscription(), ("delete", "update"), [2, 3, 4]),
        (Subscription(kinds=("commit",)), ("create",), [0, 1]),
        (Subscription(collections=(LIKE,)), (), [1, 4]),
        (Subscription(collections=(LIKE,)), ("delete",), [4]),
        (Subscription(dids=("did:plc:a3",)), (), [3]),
    ],
)
def test_operations_and_collections_constrain_commits_only(
    subscription: Subscription, operations: tuple[str, ...], chosen: list[int]
) -> None:
    mask = Feed("work", subscription, operations).mask(EVENTS).to_pylist()
    assert [number for number, wanted in enumerate(mask) if wanted] == chosen


def test_a_name_or_an_operation_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'\.\./work' cannot name a queue"):
        Feed("../work")
    with pytest.raises(InvalidInput, match="'remove' is not an operation; write create, update, delete"):
        Feed("work", operations=("remove",))


def test_the_same_choice_has_the_same_fingerprint_and_another_one_another() -> None:
    every = Feed("work").fingerprint
    assert Feed("other", operations=("update", "delete", "create", "create")).fingerprint == every
    others = [
        Feed("work", operations=("create",)),
        Feed("work", operations=("update",)),
        Feed("work", Subscription(dids=("did:plc:a",))),
    ]
    assert len({every, *(feed.fingerprint for feed in others)}) == 4
