"""Which tables a stream has events for."""

import pytest

from jetstream_pipeline.tables.definitions import TABLES

OF_ACCOUNTS = {"identities", "accounts"}


@pytest.mark.parametrize(
    ("collections", "names"),
    [
        ((), {table.name for table in TABLES}),
        (("app.bsky.feed.post",), {"posts"}),
        (("app.bsky.feed.*",), {"posts", "likes", "reposts"}),
        (("app.bsky.*",), {"posts", "likes", "reposts", "follows", "blocks", "profiles"}),
        (("app.bsky.graph.*", "app.bsky.feed.like"), {"follows", "blocks", "likes"}),
        (("app.bsky.feed.postgate", "app.bsky.feed.generator"), set()),
        (("com.example.*",), set()),
    ],
)
def test_a_table_is_of_its_collection_and_those_of_accounts_are_of_all(
    collections: tuple[str, ...], names: set[str]
) -> None:
    assert {table.name for table in TABLES if table.is_of(collections)} == names | OF_ACCOUNTS


def test_every_table_takes_one_collection_or_changes_of_accounts() -> None:
    assert {table.name for table in TABLES if table.collection is None} == OF_ACCOUNTS
    for table in TABLES:
        assert (table.collection is None) == (table.body == "payload")
        assert table.collection is None or f"'{table.collection}'" in table.condition
