"""What may be an item, and how it comes back."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from jetstream_pipeline import JetstreamRecord, Queue
from jetstream_pipeline.errors import InvalidInput


class Named(BaseModel):
    name: str


@pytest.mark.parametrize(
    "payload",
    [
        {"text": "before\x00after"},
        {"text": "half a pair: \ud83d"},
        {"text": "x" * 2_000_000},
        {"big": 2**70, "float": 1.5, "none": None, "list": [1, [2, [3]]]},
        {"'; DROP TABLE items; --": "$1 ? {}"},
    ],
)
def test_awkward_payloads_come_back_equal(queue: Queue, payload: dict[str, Any]) -> None:
    queue.batch_add_items_to_queue([payload, json.dumps(payload)], payload if len(str(payload)) < 1000 else None)
    first, second = queue.claim()
    assert first.json() == second.json() == payload


def test_text_stays_as_it_was_given(queue: Queue) -> None:
    texts = ['{ "a" :1 }', r'{"half":"\ud83d"}', '{"line":\n"break"}', "[" * 500 + "]" * 500, "7"]
    queue.batch_add_items_to_queue(texts)
    assert [item.payload for item in queue.peek()] == texts


def test_a_model_is_an_item(queue: Queue) -> None:
    commit = {
        "rev": "3k",
        "operation": "create",
        "collection": "a.b.c",
        "rkey": "k",
        "cid": "b",
        "record": {"t": "\ud83d"},
    }
    record = JetstreamRecord(did="did:plc:a", time_us=1, kind="commit", commit=commit)
    queue.add(record)
    assert JetstreamRecord.from_json(queue.peek()[0].payload) == record


@pytest.mark.parametrize("bad", ["", "{", "{'a': 1}", {"a": {1, 2}}, {"a": float("nan")}, b"bytes", "\ud800"])
def test_what_is_no_json_is_refused_and_nothing_of_its_batch_is_added(queue: Queue, bad: Any) -> None:
    with pytest.raises(InvalidInput, match="item 1 is not JSON"):
        queue.batch_add_items_to_queue([{}, bad])
    assert queue.stats().added == 0


def test_metadata_that_is_no_json_is_refused(queue: Queue) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for metadata in ({"a": {1}}, {"a": deep}):
        with pytest.raises(InvalidInput, match="metadata"):
            queue.add({}, metadata)
    assert queue.stats().added == 0


@pytest.mark.parametrize("single", ["[1, 2]", b"12", {"n": 1}, Named(name="x")])
def test_a_single_item_is_not_taken_for_a_batch(queue: Queue, single: Any) -> None:
    with pytest.raises(InvalidInput, match="list of items"):
        queue.batch_add_items_to_queue(single)
    assert queue.stats().added == 0


def test_any_number_of_items_goes_into_one_call(queue: Queue) -> None:
    assert queue.batch_add_items_to_queue([]) == 0
    assert queue.batch_add_items_to_queue({"n": n} for n in range(100_000)) == 100_000
    assert [item.id for item in queue.claim(None)] == list(range(1, 100_001))
