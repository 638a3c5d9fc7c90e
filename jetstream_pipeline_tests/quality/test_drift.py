"""Records are held against the lexicons, whatever strangers wrote."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.quality import sampling
from jetstream_pipeline.quality.drift import drift
from jetstream_pipeline.quality.finding import Finding
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.reference import reference
from jetstream_pipeline_tests.windows import HOUR, commit, delete, store

POST, LIKE, BLOCK, PROFILE = (f"app.bsky.{name}" for name in ("feed.post", "feed.like", "graph.block", "actor.profile"))
CREATED = "2026-07-04T14:00:00Z"
GOOD = {
    POST: {"$type": POST, "text": "", "createdAt": CREATED},
    LIKE: {"$type": LIKE, "subject": {"uri": "at://a", "cid": "b"}, "createdAt": CREATED},
    BLOCK: {"$type": BLOCK, "subject": "did:plc:a", "createdAt": CREATED},
    PROFILE: {"$type": PROFILE},
}


def looked_at(data: DataDirectory, messages: Sequence[bytes]) -> Finding:
    store(data, messages)
    return drift(data.lake.events_path("network", HOUR))


def records(number: int, collection: str = POST, first: int = 0, **changes: object) -> list[bytes]:
    """Good records but for the changes; a change to None takes the field out."""
    record = {name: value for name, value in {**GOOD[collection], **changes}.items() if value is not None}
    return [commit(json.dumps(record), collection, first + index) for index in range(number)]


def test_real_events_do_not_drift(data: DataDirectory) -> None:
    messages = [
        line
        for name in ("events/real-v1-kinds.jsonl", "events/real-v1-window.jsonl")
        for line in reference(name).read_bytes().splitlines()
    ]
    found = looked_at(data, messages)
    assert found.passed
    assert (found.figures["unknown_fields"], found.figures["lacking_fields_share"]) == ("", 0.0)
    assert found.figures["unknown_collections"] == 3


@pytest.mark.parametrize("collection", GOOD)
def test_records_as_the_lexicon_has_them_do_not_drift(data: DataDirectory, collection: str) -> None:
    found = looked_at(data, [*records(150, collection), delete(collection, 150)])
    assert found.passed
    assert found.figures == {
        "records": 150,
        "one_row_of": 1,
        "unknown_fields_share": 0.0,
        "lacking_fields_share": 0.0,
        "unknown_fields": "",
        "unknown_collections": 0,
        "unknown_collections_events": 0,
        "most_frequent": "",
    }


@pytest.mark.parametrize(("strange", "passed"), [(1, True), (10, True), (11, False), (200, False)])
def test_one_record_in_twenty_may_have_fields_that_no_lexicon_has(
    data: DataDirectory, strange: int, passed: bool
) -> None:
    found = looked_at(data, [*records(200 - strange), *records(strange, first=200, bridged=True, odd=1)])
    assert found.passed == passed
    assert found.figures["unknown_fields_share"] == strange / 200
    assert found.figures["unknown_fields"] == f"{POST}.bridged ({strange}), {POST}.odd ({strange})"
    assert (f"have fields that no lexicon has: {POST}.bridged ({strange})" in found.text) == (not passed)


@pytest.mark.parametrize(
    ("collection", "changes"),
    [
        (POST, {"text": None}),
        (POST, {"text": 1}),
        (POST, {"createdAt": None}),
        (LIKE, {"subject": "at://a"}),
        (BLOCK, {"subject": {"did": "did:plc:a"}}),
    ],
)
def test_a_collection_whose_records_lack_what_they_must_have_fails_however_rare_it_is(
    data: DataDirectory, collection: str, changes: dict[str, object]
) -> None:
    others = records(3000, PROFILE)
    bad = records(6, collection, 5000, **changes)
    assert looked_at(data, [*others, *records(114, collection, 6000), *bad]).passed
    found = looked_at(data, [*others, *records(113, collection, 6000), *bad])
    assert not found.passed
    assert found.text == f"5.0% of {collection} lack a field that its lexicon requires"


def test_a_few_records_say_nothing(data: DataDirectory) -> None:
    found = looked_at(data, records(99, text=None, odd=1))
    assert found.passed
    assert found.figures["unknown_fields_share"] == found.figures["lacking_fields_share"] == 1.0


def test_collections_that_no_lexicon_has_are_counted_and_no_failure(data: DataDirectory) -> None:
    strangers = [commit('{"any":1}', f"com.example.c{number % 30}", number) for number in range(600)]
    found = looked_at(data, [*strangers, *records(3, "app.bsky.feed.post", 700), delete("app.bsky.feed.pots", 800)])
    assert found.passed
    assert (found.figures["unknown_collections"], found.figures["unknown_collections_events"]) == (31, 601)
    named = str(found.figures["most_frequent"]).split(", ")
    assert len(named) == 20
    assert set(named) <= {f"com.example.c{number} (20)" for number in range(30)}


@pytest.mark.parametrize(
    "record",
    [
        *('"text"', "[1]", "null", "7", "[" * 9000 + "]" * 9000, '{"a":' * 9000 + "1" + "}" * 9000),
        *("{", "", "NaN", '{"text":"\\ud800"}', '{"text":{"text":""},"createdAt":[]}', "{}"),
        '{"text":null,"text":"","createdAt":""}',
    ],
)
def test_records_that_are_nothing_like_records_lack_everything(tmp_path: Path, record: str) -> None:
    row = {"time_us": 1, "did": "did:plc:a", "kind": "commit", "collection": POST, "record": record, "host": "host"}
    path = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist([row] * 120, EVENT_SCHEMA), path)
    found = drift(path)
    assert not found.passed
    assert (found.figures["records"], found.figures["lacking_fields_share"]) == (120, 1.0)


def test_strangers_names_are_bounded_and_printable(data: DataDirectory) -> None:
    names = ["\x1b[31m", "\n\0", "'); DROP TABLE sampled; --", "x" * 100_000, "ü", "\u202e", "\ud800"]
    many = {f"f{number:07}": number for number in range(50_000)}
    found = looked_at(data, [*records(1, first=0, **dict.fromkeys(names, 1)), *records(1, first=1, **many)])
    listed = str(found.figures["unknown_fields"])
    assert listed.count("(1)") == 20
    assert len(listed) < 20 * 80
    assert listed.isascii() or set(listed) - set(map(chr, range(128))) == {"…"}
    assert listed.isprintable()
    assert r"app.bsky.feed.post.\x1b[31m (1)" in listed
    assert found.figures["unknown_fields_share"] == 1.0


def test_a_record_counts_once_for_a_field_and_for_twenty_fields_at_most(data: DataDirectory) -> None:
    twice = '{"odd":1,"odd":2,"text":"","createdAt":""}'
    assert looked_at(data, [commit(twice)]).figures["unknown_fields"] == f"{POST}.odd (1)"
    many = [{f"f{number:02}": 1 for number in numbers} for numbers in (range(25), range(20, 25))]
    listed = str(looked_at(data, [commit(json.dumps(record), number=n) for n, record in enumerate(many)]).figures)
    assert "(2)" not in listed


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from([*GOOD[POST], "odd", "ODD", ""]), _JSON), min_size=1, max_size=9))
def test_fields_are_counted_as_they_are(data: DataDirectory, objects: list[dict]) -> None:
    found = looked_at(data, [commit(json.dumps(record), number=number) for number, record in enumerate(objects)])
    known = set(GOOD[POST])
    good = [isinstance(one.get("text"), str) and isinstance(one.get("createdAt"), str) for one in objects]
    assert found.figures["records"] == len(objects)
    assert found.figures["lacking_fields_share"] == round(good.count(False) / len(objects), 6)
    assert found.figures["unknown_fields_share"] == round(
        sum(1 for one in objects if set(one) - known) / len(objects), 6
    )


def test_of_a_large_window_every_so_many_rows_are_looked_at_the_same_each_time(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_SAMPLE_ROWS", 100)
    messages = [*records(901), *records(90, first=901, odd=1), *records(9, LIKE, 991)]
    found = looked_at(data, messages)
    assert (found.figures["one_row_of"], found.figures["records"]) == (10, 100)
    assert found.figures["unknown_fields"] == f"{POST}.odd (9)"
    assert drift(data.lake.events_path("network", HOUR)) == found


def test_a_window_without_events_does_not_drift(data: DataDirectory) -> None:
    found = looked_at(data, [])
    assert found.passed
    assert found.text.startswith("0 records looked at")


def test_a_path_with_wildcards_in_it_is_that_path(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "we[i]rd*")
    assert looked_at(data, records(3)).figures["records"] == 3


def test_a_file_that_is_none_is_told_in_one_line(data: DataDirectory) -> None:
    path = data.lake.events_path("network", HOUR)
    with pytest.raises(StorageError, match=r"cannot look into .*events\.parquet"):
        drift(path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 no such thing")
    with pytest.raises(StorageError) as error:
        drift(path)
    assert "\n" not in str(error.value)
