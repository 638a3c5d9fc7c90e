"""The synthetic network is the same everywhere, and shaped like the real one."""

import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from jetstream_pipeline.simulator import Network, SimulatedEvent
from jetstream_pipeline.simulator.records import FOLLOW, LIKE, POST, REPOST
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US

_DIGEST_IN_ANOTHER_PROCESS = """
import hashlib, sys
from jetstream_pipeline.simulator import Network
digest = hashlib.sha256()
for event in Network(seed=7, rate=20.0).events(int(sys.argv[1]), int(sys.argv[2])):
    digest.update(event.message)
print(digest.hexdigest())
"""


def test_another_process_makes_the_same_bytes(network: Network) -> None:
    span = NOON_US, NOON_US + 2 * MINUTE_US
    here = hashlib.sha256(b"".join(event.message for event in network.events(*span))).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", _DIGEST_IN_ANOTHER_PROCESS, *map(str, span)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "99", "PYTHONPATH": ":".join(sys.path)},
        cwd=Path(__file__).parents[2],
    )
    assert there.stdout.strip() == here


def test_the_bytes_of_a_known_minute_never_change() -> None:
    digest = hashlib.sha256(b"".join(event.message for event in Network(0, 20.0).page(NOON_US // MINUTE_US)))
    assert digest.hexdigest() == "5851947bebf0444b669ef2221581dda89728c94d40fc6c2488857366ad7fef53"


def test_other_seeds_and_rates_make_other_networks(network: Network) -> None:
    def first(seed: int, rate: float) -> SimulatedEvent:
        return next(Network(seed, rate).events(NOON_US, NOON_US + MINUTE_US))

    assert len({first(0, 20.0).message, first(1, 20.0).message, first(0, 30.0).message}) == 3


@pytest.mark.parametrize("offset_us", [0, 1, 12_345_678, 59_999_999])
def test_every_starting_point_sees_the_same_events(network: Network, offset_us: int) -> None:
    end = NOON_US + 3 * MINUTE_US
    whole = list(network.events(NOON_US, end))
    fresh = list(Network(network.seed, network.rate).events(NOON_US + offset_us, end))
    assert fresh == whole[-len(fresh) :]
    assert fresh[0].time_us >= NOON_US + offset_us
    assert all(event.time_us < NOON_US + offset_us for event in whole[: -len(fresh)])


def test_neighbouring_windows_share_and_lose_nothing(busy_network: Network) -> None:
    edges = [NOON_US + part * MINUTE_US // 7 for part in range(15)]
    parts = [event for edge in pairwise(edges) for event in busy_network.events(*edge)]
    assert parts == list(busy_network.events(edges[0], edges[-1]))


def test_sequence_numbers_grow_with_gaps_and_times_mostly_grow(busy_events: list[SimulatedEvent]) -> None:
    steps = [after.seq - before.seq for before, after in pairwise(busy_events)]
    assert min(steps) == 1
    assert max(steps) > 1
    assert busy_events[-1].seq < 10**14
    times = [after.time_us - before.time_us for before, after in pairwise(busy_events)]
    assert any(step == 0 for step in times)
    assert any(step < 0 for step in times)
    assert min(times) >= -3_000


def test_messages_say_what_the_fields_say(busy_events: list[SimulatedEvent]) -> None:
    for event in busy_events[:8000]:
        message = json.loads(event.message)
        body = message[message["kind"]]
        assert list(message) == ["did", "time_us", "cursor", "kind", message["kind"]]
        assert (message["did"], message["time_us"], message["cursor"]) == (
            event.did,
            event.time_us,
            event.seq,
        )
        if event.kind == "commit":
            names = ("rev", "operation", "collection", "rkey", "cid")
            assert [body.get(name) for name in names] == [getattr(event, name) for name in names]
            assert (event.record_json is None) == (event.operation == "delete")
        else:
            assert event.payload_json is not None
            assert json.loads(event.payload_json) == body
            assert ("status" in body) == (body.get("active") is False)
        assert b'"cursor"' not in event.message_without_cursor
        del message["cursor"]
        assert json.loads(event.message_without_cursor) == message


def test_records_are_spelled_like_those_of_the_real_server(busy_events: list[SimulatedEvent]) -> None:
    """Sorted keys except in blobs, no spaces, letters as they are, HTML's characters escaped."""
    checked = 0
    for event in busy_events:
        if event.record_json is None or "$link" in event.record_json or "\\ud83d" in event.record_json:
            continue
        expected = json.dumps(json.loads(event.record_json), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        for character in "<>&":
            expected = expected.replace(character, f"\\u{ord(character):04x}")
        assert event.record_json == expected
        checked += 1
    assert checked > 10_000


def test_commit_operations_are_unique_and_revs_grow(busy_events: list[SimulatedEvent]) -> None:
    commits = [event for event in busy_events if event.kind == "commit"]
    identities = [(e.did, e.rev, e.collection, e.rkey, e.operation) for e in commits]
    assert len(set(identities)) == len(identities)
    revs: dict[str, str] = {}
    operations: Counter[tuple[str, str]] = Counter()
    times: dict[tuple[str, str], int] = {}
    for event in commits:
        assert event.rev is not None
        assert revs.get(event.did, "") <= event.rev
        revs[event.did] = event.rev
        operations[event.did, event.rev] += 1
        assert times.setdefault((event.did, event.rev), event.time_us) == event.time_us
    assert max(operations.values()) >= 5


def test_the_mix_is_that_of_the_real_network(busy_events: list[SimulatedEvent]) -> None:
    total = len(busy_events)
    shares = Counter(event.collection or event.kind for event in busy_events)
    for name, percent in {LIKE: 69, POST: 11, REPOST: 10, FOLLOW: 6}.items():
        assert shares[name] / total * 100 == pytest.approx(percent, rel=0.1), name
    deletes = sum(event.operation == "delete" for event in busy_events)
    assert 0.04 < deletes / total < 0.05
    assert shares["identity"]
    assert shares["account"]
    assert len(shares) >= 13


def test_the_sizes_are_those_of_the_real_network(busy_events: list[SimulatedEvent]) -> None:
    sizes: dict[str | None, list[int]] = defaultdict(list)
    for event in busy_events:
        key = event.collection if event.operation == "create" else event.operation
        sizes[key].append(len(event.message_without_cursor))
        sizes["all"].append(len(event.message_without_cursor))
    for name, mean in {LIKE: 529, POST: 846, REPOST: 569, FOLLOW: 394, "delete": 199, "all": 552}.items():
        assert sum(sizes[name]) / len(sizes[name]) == pytest.approx(mean, rel=0.1), name


def test_nights_are_quieter_than_evenings(network: Network) -> None:
    hour = 60
    midnight = NOON_US // MINUTE_US - 12 * hour
    night, evening = (
        sum(len(network.page(midnight + at * hour + minute)) for minute in range(0, 60, 6)) for at in (5, 20)
    )
    assert night < 0.85 * 200 * 60
    assert evening > 1.2 * 200 * 60
