"""Keys are the same where identities are, and sets of them are sets."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.events import keys
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.identity import IDENTITY_COLUMNS, identities
from jetstream_pipeline.events.schema import EVENT_SCHEMA
from jetstream_pipeline.simulator import Network

START_US = 1_783_175_880_000_000
EVENTS = decode([event.message for event in Network(rate=100).events(START_US, START_US + 60_000_000)], "host").events
TEXTS = st.sampled_from(
    (None, "", "a", "b", "\x1f", "a\x1fb", "é", "a" * 7, "a" * 8, "a" * 9, "a" * 40, "a" * 41, "b" * 300, "\0", "\0\0")
)
NUMBERS = st.tuples(st.integers(0, 3) | st.integers(1_020, 1_030) | st.integers(0, 2**64 - 1), st.sampled_from((1, 3)))

needs_compiler = pytest.mark.skipif(not keys.known, reason="there was no compiler when the package was installed")
SETS = [keys.KnownTexts, *([keys.known.Numbers] if keys.known else [])]


def of(rows: list[dict[str, str | None]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"time_us": 0, "did": "", "kind": "", "host": "", **row} for row in rows],
        pa.schema([field.with_nullable(True) for field in EVENT_SCHEMA]),
    )


@needs_compiler
@settings(max_examples=300)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(IDENTITY_COLUMNS, TEXTS)), max_size=12), st.integers(0, 12))
def test_numbers_are_the_same_where_identities_are(rows: list[dict[str, str | None]], cut: int) -> None:
    rows = [{name: value or ("" if name in ("did", "kind") else value) for name, value in row.items()} for row in rows]
    events = of([*rows, *rows])
    numbers = [*map(tuple, keys.number_keys(events).tolist())]
    texts = [tuple(row.get(name) or "" for name in IDENTITY_COLUMNS) for row in [*rows, *rows]]
    assert len(set(numbers)) == len(set(texts)) == len(set(zip(numbers, texts, strict=True)))
    parts = [events.slice(0, cut), events.slice(cut)]
    assert [*map(tuple, np.concatenate([*map(keys.number_keys, parts)]).tolist())] == numbers


@settings(max_examples=300)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(IDENTITY_COLUMNS, TEXTS)), max_size=12), st.integers(0, 12))
def test_texts_are_the_same_where_their_parts_are(rows: list[dict[str, str | None]], cut: int) -> None:
    rows = [{name: value or ("" if name in ("did", "kind") else value) for name, value in row.items()} for row in rows]
    texts = identities(of(rows)).to_pylist()
    parts = [tuple(row.get(name) or "" for name in IDENTITY_COLUMNS) for row in rows]
    assert len(set(texts)) == len(set(parts)) == len(set(zip(texts, parts, strict=True)))
    assert [*identities(of(rows[:cut])).to_pylist(), *identities(of(rows[cut:])).to_pylist()] == texts


@needs_compiler
def test_a_networks_events_have_keys_of_their_own() -> None:
    numbers = keys.number_keys(EVENTS)
    assert len(np.unique(numbers[:, 0])) == len(set(identities(EVENTS).to_pylist())) > 5_000
    again = pa.concat_batches([EVENTS.slice(1_000, 10), EVENTS.slice(5_000, 10)])
    assert (keys.number_keys(again) == np.concatenate([numbers[1_000:1_010], numbers[5_000:5_010]])).all()


@pytest.mark.parametrize("kind", SETS)
@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(("add", "forget", "have")), st.lists(NUMBERS, max_size=12)), max_size=30),
    st.integers(1, 2_000),
)
def test_a_set_of_keys_is_a_set(kind: type, steps: list[tuple[str, list[tuple[int, int]]]], more: int) -> None:
    """The numbers are such that many have the same place, also where the table ends."""
    here: set[tuple[int, int]] = set()
    known = kind()
    for step, some in [*steps, ("add", [(number * 1_024, 5) for number in range(more)]), *steps]:
        given_keys = as_keys(kind, some)
        if step == "add":
            expected = []
            for key in some:
                expected.append(key not in here)
                here.add(key)
            assert known.add(given_keys).tolist() == expected
        elif step == "forget":
            here.difference_update(some)
            known.forget(given_keys)
        else:
            assert known.have(given_keys).tolist() == [key in here for key in some]
        assert len(known) == len(here)
    assert known.have(as_keys(kind, sorted(here))).all()


def as_keys(kind: type, some: list[tuple[int, int]]) -> np.ndarray:
    if kind is keys.KnownTexts:
        return np.array([*map(str, some)], np.object_)
    return np.array(some, np.uint64).reshape(-1, 2)


@needs_compiler
def test_texts_that_are_not_there_are_not_read() -> None:
    states = np.empty((2, 4), np.uint64)
    keys.known.begin(states)
    for offsets in ([0, 2, 1], [0, 1, 5], [-1, 0, 1], [0, 1]):
        with pytest.raises((IndexError, ValueError)):
            keys.known.add_texts(states, np.array(offsets, np.int32), np.zeros(4, np.uint8))
