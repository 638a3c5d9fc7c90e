"""The command `stream` as a person meets it: every option, against a simulated network."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jetstream_pipeline import JetstreamRecord, Queue
from jetstream_pipeline.cli import progress
from jetstream_pipeline.simulator import Faults, Network, SimulatedEvent, Simulator, running
from jetstream_pipeline.simulator.faults import Close
from jetstream_pipeline_tests.cli.commands import told
from jetstream_pipeline_tests.connector.events import identity, simulated
from jetstream_pipeline_tests.handles.names import naming
from jetstream_pipeline_tests.handles.web import serving
from jetstream_pipeline_tests.handles.world import World

_NETWORK = Network(seed=14, rate=20)
_START = 60_000_000 * (int(time.time()) // 60 - 60)
_START_TEXT = f"{datetime.fromtimestamp(_START / 1e6, UTC):%Y-%m-%d-%H:%M:%S}"
_PREFIXES = ("app.bsky.", "com.whtwnd.", "com.example.", "fm.teal.")
_EVERYTHING = tuple(text for prefix in _PREFIXES for text in ("-c", f"{prefix}*"))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running(Simulator(_NETWORK)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def events() -> list[SimulatedEvent]:
    return list(_NETWORK.events(_START, _START + 20 * 60_000_000))


def _later(moment_us: int, seconds: int) -> str:
    return f"{datetime.fromtimestamp(moment_us / 1e6 + seconds, UTC):%Y-%m-%d-%H:%M:%S}"


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "jetstream_pipeline", "stream", *options]


def stream(folder: Path, host: Simulator | None, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    instance = ["-i", host.address] if host else []
    return told(folder, "stream", *instance, *options, **environment)


def module(folder: Path, host: Simulator, *options: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, by the name of its module."""
    return subprocess.run(
        [sys.executable, "-m", "jetstream_pipeline.jetstream_cli", "-i", host.address, *options],
        capture_output=True,
        text=True,
        env=os.environ | {"JETSTREAM_DATA_DIR": str(folder)},
        timeout=90,
    )


def statistics(folder: Path, host: Simulator | None, *options: str, **environment: str) -> dict[str, Any]:
    """What `--json` prints of a run that succeeds."""
    result = stream(folder, host, "--json", *options, **environment)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def found(folder: Path, queue: str = "jetstream_sync") -> list[Any]:
    items = Queue(queue, data_dir=folder).peek(None)
    return [identity(JetstreamRecord.from_json(item.payload)) for item in items]


def wanted(events: list[SimulatedEvent], *collections: str) -> list[SimulatedEvent]:
    """The events of these collections, or of prefixes that end in a dot; and what has no collection."""
    prefixes = tuple(name for name in collections if name.endswith("."))
    return [
        event
        for event in events
        if event.collection is None or event.collection in collections or event.collection.startswith(prefixes)
    ]


def test_a_start_and_a_number_and_posts_unless_told_otherwise(
    simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path
) -> None:
    result = stream(tmp_path, simulator, "-s", _START_TEXT, "-n", "50")
    assert result.returncode == 0, result.stderr
    assert found(tmp_path) == simulated(wanted(events, "app.bsky.feed.post")[:50])
    assert "50 records stored in jetstream_sync" in result.stdout
    assert "--resume" in result.stdout


def test_the_module_is_the_same_command(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path) -> None:
    options = ("--start-timestamp", _START_TEXT, "--num-records", "5")
    result = module(tmp_path, simulator, *options)
    assert result.returncode == 0, result.stderr
    assert found(tmp_path) == simulated(wanted(events, "app.bsky.feed.post")[:5])
    refused = module(tmp_path, simulator, "--cursor", "x")
    assert refused.returncode == 2
    assert refused.stderr.startswith("python -m jetstream_pipeline.jetstream_cli: ")


def test_collections_and_kinds(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path) -> None:
    options = ("-s", _START_TEXT, "-n", "60", "-c", "app.bsky.feed.like", "--wanted-collections", "app.bsky.graph.*")
    stream(tmp_path, simulator, *options, "--kinds", "commit", "--kinds", "account")
    expected = [one for one in wanted(events, "app.bsky.feed.like", "app.bsky.graph.") if one.kind != "identity"]
    assert found(tmp_path) == simulated(expected[:60])


def test_repositories_by_option_and_by_file(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path) -> None:
    dids = [did for did, _ in Counter(event.did for event in events).most_common(5)]
    names = tmp_path / "dids.txt"
    names.write_text(f"# the second to the fifth\n\n{dids[1]}\n{dids[2]}  # by name\n{dids[3]}\r\n{dids[4]}")
    expected = [event for event in wanted(events, "app.bsky.") if event.did in dids]
    options = ("-s", _START_TEXT, "-n", str(len(expected)), "-c", "app.bsky.*")
    stream(tmp_path, simulator, *options, "-d", dids[0], "--wanted-dids", f"@{names}")
    assert found(tmp_path) == simulated(expected)


def test_handles_are_resolved_first(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path) -> None:
    dids = [did for did, _ in Counter(event.did for event in events if event.did.startswith("did:plc:")).most_common(2)]
    expected = [event for event in wanted(events, "app.bsky.") if event.did in dids]
    options = ("-s", _START_TEXT, "-n", str(len(expected)), "-c", "app.bsky.*", "-u")
    with serving() as services, naming() as names:
        world = World(services, services, names, tmp_path / "unused")
        world.appview_knows_none("nobody.test")
        for handle, did in zip(("alice.test", "bob.test"), dids, strict=True):
            world.appview(handle, did)
            world.document(did, f"at://{handle}")
        environment = {
            "JETSTREAM_APPVIEW": world.endpoints.appview,
            "JETSTREAM_PLC_DIRECTORY": world.endpoints.plc,
            "JETSTREAM_DNS_SERVER": names.server,
        }
        statistics(tmp_path, simulator, *options, "@Alice.test, bob.test", **environment)
        refused = stream(tmp_path, simulator, *options, "nobody.test", **environment)
    assert found(tmp_path) == simulated(expected)
    assert dids[0] in (tmp_path / "handles.jsonl").read_text()
    assert refused.returncode == 2
    assert "nobody.test" in refused.stderr


def test_an_end(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path) -> None:
    end = datetime.fromtimestamp(_START / 1e6 + 120, UTC).isoformat()
    told = statistics(tmp_path, simulator, "-s", _START_TEXT, "-e", end, "-n", "0", *_EVERYTHING)
    assert told["end_cursor_reached"]
    end_us = _START + 120_000_000
    until = next(number for number, event in enumerate(events) if event.time_us >= end_us)
    assert len(found(tmp_path)) == len(wanted(events[:until], *_PREFIXES))


def test_time_is_up_on_a_silent_filter(simulator: Simulator, tmp_path: Path) -> None:
    told = statistics(tmp_path, simulator, "-n", "0", "-t", "5", "-d", "did:plc:nobody")
    assert 5 <= told["total_time"] < 60
    assert told["records_stored"] == 0


def test_hosts_are_asked_in_the_order_given(simulator: Simulator, tmp_path: Path) -> None:
    told = statistics(tmp_path, None, "-i", "ws://127.0.0.1:1", "--instance", simulator.address, "-n", "3")
    assert told["hosts"] == [simulator.address.removeprefix("ws://")]
    told = statistics(tmp_path, None, "-n", "3", JETSTREAM_HOSTS=simulator.address)
    assert told["hosts"] == [simulator.address.removeprefix("ws://")]


def test_queue_and_batch(simulator: Simulator, tmp_path: Path) -> None:
    options = ("-s", _START_TEXT, "-n", "20", "--queue-name", "mine", "--batch-size", "6")
    told = statistics(tmp_path, simulator, *options)
    sizes = Counter(item.created_at for item in Queue("mine", data_dir=tmp_path).peek(None)).values()
    assert (max(sizes), sum(sizes), told["queue_length"]) == (6, 20, 20)


def test_compression_saves_bytes(simulator: Simulator, tmp_path: Path) -> None:
    options = ("-s", _START_TEXT, "-n", "500", *_EVERYTHING)
    plain, compressed = (statistics(tmp_path, simulator, *options, *more) for more in ((), ("--compress",)))
    per_message = [told["bytes_received"] / told["messages_received"] for told in (plain, compressed)]
    assert per_message[1] < per_message[0] / 2


def test_compression_that_is_not_to_be_had_is_told_and_done_without(simulator: Simulator, tmp_path: Path) -> None:
    options = ("-s", _START_TEXT, "-n", "5", "--wire", "v1", "--compress")
    result = stream(tmp_path, simulator, *options, JETSTREAM_ZSTD_DICTIONARY=str(tmp_path / "none"))
    assert result.returncode == 2
    assert "JETSTREAM_ZSTD_DICTIONARY" in result.stderr
    result = stream(tmp_path, simulator, *options)
    assert result.returncode == 0
    assert "going on without compression" in result.stderr


def test_the_wire_may_be_chosen(tmp_path: Path) -> None:
    with running(Simulator(_NETWORK, v2=False)) as old:
        assert statistics(tmp_path, old, "-n", "1", "-s", _START_TEXT, "--wire", "v1")["records_stored"] == 1
        refused = stream(tmp_path, old, "-n", "1", "--wire", "v2")
    assert refused.returncode == 2
    assert "--wire" in refused.stderr


def test_a_cursor_and_going_on(simulator: Simulator, events: list[SimulatedEvent], tmp_path: Path) -> None:
    options = ("-n", "30", "-c", "app.bsky.feed.post")
    posts = wanted(events, "app.bsky.feed.post")
    first = statistics(tmp_path, simulator, *options, "--cursor", str(_START))
    second = statistics(tmp_path, simulator, *options, "--resume")
    assert found(tmp_path) == simulated(posts[:60])
    assert (first["latest_cursor"], second["latest_cursor"]) == (posts[29].time_us, posts[59].time_us)
    statistics(tmp_path, simulator, "-n", "1", *options[2:], "--cursor", str(events[77].seq), "--queue-name", "other")
    assert found(tmp_path, "other") == simulated(wanted(events[77:], "app.bsky.feed.post")[:1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_nothing_received_is_lost(
    simulator: Simulator, tmp_path: Path, number: signal.Signals
) -> None:
    queue = Queue("jetstream_sync", create_new_queue=True, data_dir=tmp_path)
    options = ("-i", simulator.address, "-n", "0", "-t", "0", *_EVERYTHING)
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}
    process = subprocess.Popen(
        command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 60
    while len(queue) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    stored = re.match(r"(\d+) records stored", output)
    assert stored
    assert int(stored[1]) == len(found(tmp_path))
    last = queue.peek(None)[-1]
    assert f"--cursor {last.json()['time_us']}" in output


def test_a_second_signal_waits_for_nobody(simulator: Simulator, tmp_path: Path) -> None:
    queue = Queue("jetstream_sync", create_new_queue=True, data_dir=tmp_path)
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}
    options = ("-i", simulator.address, "-n", "0", "-t", "0")
    process = subprocess.Popen(command(*options), stderr=subprocess.PIPE, env=environment)
    while not len(queue):
        time.sleep(0.2)
    with queue.opened():
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT


def test_progress_is_told_in_plain_lines_and_not_at_all_when_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_SEC", 0.0)
    few = Network(seed=14, rate=1)
    for quiet in (False, True):
        with running(Simulator(few, faults=Faults(script=(Close(50, 1001, "back soon"),)))) as simulator:
            options = ("-n", "100", "-t", "60", "-s", _START_TEXT, *_EVERYTHING)
            result = stream(tmp_path, simulator, *options, *(["--quiet"] if quiet else []))
            assert result.returncode == 0
            if quiet:
                assert result.stderr == ""
            else:
                assert "back soon" in result.stderr
                assert re.search(r"[\d,]+ records  [\d,]+/s  .* behind  [\d.]+ MB  1 reconnections", result.stderr)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-c", "posts"), "is not a collection"),
        (("-d", "me"), "is not a DID"),
        (("-d", "@/nowhere"), "cannot read DIDs from /nowhere"),
        (("-u", "not a handle"), "handle"),
        (("-s", "yesterday"), "is not a time"),
        (("-s", "2999-01-01"), "future"),
        (("-e", "2026-13-01"), "is not a time"),
        (("-s", "2026-01-02", "-e", "2026-01-01"), "is not after"),
        (("-s", "2026-01-02", "--cursor", "5"), "not both"),
        (("-n", "-1"), "-1"),
        (("-t", "soon"), "soon"),
        (("-i", "http://example.org"), "is not a host"),
        (("--queue-name", "../x"), "../x"),
        (("--batch-size", "0"), "0"),
        (("--cursor", "1783166400000"), "16 digits"),
        (("--kinds", "sync"), "sync"),
        (("--wire", "v3"), "v3"),
        (("-n", "5", "extra"), "extra"),
    ],
)
def test_every_refusal_is_one_line(simulator: Simulator, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    result = stream(tmp_path, simulator, *options)
    assert result.returncode == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


def test_a_terminal_shows_how_far_it_is(simulator: Simulator, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path), "COLUMNS": "200", "TERM": "xterm"}
    options = ("-i", simulator.address, "-s", _START_TEXT, "-n", "3000", *_EVERYTHING)
    process = subprocess.Popen(command(*options), stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert re.search(rb"[\d,]+ records  [\d,]+/s  (\d+ h )?\d+ min( \d+ s)? behind  [\d.]+ MB  0 reconnections", shown)


def _read(terminal: int) -> bytes:
    """What comes next on a terminal; nothing when its program has ended."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def test_what_no_host_has_any_more_is_told(tmp_path: Path) -> None:
    begins = _START + 60_000_000
    end = ["-e", _later(begins, 120)]
    lookback = timedelta(seconds=time.time() - begins / 1e6)
    with running(Simulator(_NETWORK, lookback=lookback)) as forgetful:
        result = stream(tmp_path, forgetful, "-s", _START_TEXT, *end, "--quiet")
        told = result.stdout.splitlines()
        assert result.returncode == 1
        assert re.fullmatch(r"not all of it came: 127\.0\.0\.1:\d+'s history begins at .* UTC, after .*", told[2])
        whole = stream(tmp_path, forgetful, "-s", _later(begins, 60), *end, "--quiet")
    assert whole.returncode == 0
    assert "not all of it came" not in whole.stdout
