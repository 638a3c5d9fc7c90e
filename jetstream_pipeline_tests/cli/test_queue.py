"""The command `queue` as a person meets it."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline_tests.cli.commands import told


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Ten items: one dead, two whose lease has run out, seven that wait."""
    queue = Queue("work", create_new_queue=True, data_dir=tmp_path, max_attempts=1)
    queue.batch_add_items_to_queue([{"n": n} for n in range(10)], {"from": "a test"})
    queue.fail(queue.claim(1), "no good")
    patient = Queue("work", data_dir=tmp_path)
    patient.claim(2, lease=-1)
    return queue


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "jetstream_pipeline", "queue", *arguments]


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = told(folder, "queue", *arguments)
    assert result.returncode == code, result.stderr
    return result


def is_locked(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def numbers(text: str) -> list[int]:
    return [json.loads(line)["n"] for line in text.splitlines()]


@pytest.mark.usefixtures("queue_place")
def test_list_and_stats(queue: Queue, tmp_path: Path) -> None:
    Queue("other", create_new_queue=True, data_dir=tmp_path)
    other, work = map(json.loads, run(tmp_path, "list", "--json").stdout.splitlines())
    assert (other["queue"], other["pending"]) == ("other", 0)
    assert (work["queue"], work["pending"], work["claimed"], work["dead"]) == ("work", 7, 2, 1)
    table = run(tmp_path, "list").stdout
    assert "other" in table
    assert "work" in table
    stats = json.loads(run(tmp_path, "stats", "work", "--json").stdout)
    assert (stats["pending"], stats["expired"], stats["added"]) == (7, 2, 10)
    assert stats["oldest_pending_at"].endswith("+00:00")
    assert "pending            7" in run(tmp_path, "stats", "work").stdout


def test_list_shows_the_others_where_one_cannot_be_read(queue: Queue, tmp_path: Path) -> None:
    for broken in ("alpha", "omega"):
        (queue.path.parent / f"{broken}.duckdb").write_bytes(b"this is no database" * 1000)
    (queue.path.parent / "Somebody's notes.duckdb").touch()
    result = run(tmp_path, "list", "--json", code=2)
    assert [json.loads(line)["queue"] for line in result.stdout.splitlines()] == ["work"]
    first, second = result.stderr.splitlines()
    assert "alpha.duckdb" in first
    assert "omega.duckdb" in second


def test_list_does_not_wait_long_for_a_queue_that_is_held(queue: Queue, tmp_path: Path) -> None:
    Queue("other", create_new_queue=True, data_dir=tmp_path)
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}
    with queue.opened():
        result = subprocess.run(
            command("list", "--json"), capture_output=True, text=True, env=environment, timeout=60, check=False
        )
    assert result.returncode == 2
    assert [json.loads(line)["queue"] for line in result.stdout.splitlines()] == ["other"]
    assert f"process {os.getpid()} holds the queue work for more than 2 s" in result.stderr


def test_what_python_would_not_read_or_the_terminal_not_show_is_printed_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = "1" * 5000
    payloads = [f'{{"n":\n{number}}}', '{"t":"é"}']
    queue = Queue("odd", create_new_queue=True, data_dir=tmp_path)
    queue.batch_add_items_to_queue(payloads)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    lines = [payload.replace("\n", " ") for payload in payloads]
    arguments = {"capture_output": True, "env": os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}, "check": True}
    whole = subprocess.run(command("peek", "odd", "--items"), **arguments).stdout.decode().splitlines()
    assert [line.partition('"payload": ')[2] for line in whole] == [f"{line}}}" for line in lines]
    for name in ("peek", "drain"):
        assert subprocess.run(command(name, "odd"), **arguments).stdout.decode().splitlines() == lines
    assert len(queue) == 0


def test_peek_leaves_everything_where_it_is(queue: Queue, tmp_path: Path) -> None:
    assert numbers(run(tmp_path, "peek", "work").stdout) == list(range(10))
    assert numbers(run(tmp_path, "peek", "work", "-n", "2", "--status", "pending").stdout) == [3, 4]
    (dead,) = map(json.loads, run(tmp_path, "peek", "work", "--status", "dead", "--items").stdout.splitlines())
    assert (dead["id"], dead["payload"], dead["metadata"]) == (1, {"n": 0}, {"from": "a test"})
    assert (dead["status"], dead["attempts"], dead["reason"]) == ("dead", 1, "no good")
    assert len(queue) == 7


@pytest.mark.usefixtures("queue_place")
def test_drain_prints_and_acknowledges(queue: Queue, tmp_path: Path) -> None:
    result = run(tmp_path, "drain", "work", "-n", "3", "--batch-size", "2")
    assert numbers(result.stdout) == [1, 2, 3]
    assert result.stderr == "3 items drained from work\n"
    rest = run(tmp_path, "drain", "work", "--quiet")
    assert numbers(rest.stdout) == list(range(4, 10))
    assert rest.stderr == ""
    stats = queue.stats()
    assert (stats.pending, stats.claimed, stats.dead, stats.acknowledged) == (0, 0, 1, 9)


def test_drain_writes_one_line_for_each_item(tmp_path: Path) -> None:
    queue = Queue("lines", create_new_queue=True, data_dir=tmp_path)
    queue.batch_add_items_to_queue(['{"n":\n1,\r\n"text": "a\\nb"}', '{"n":  2}'])
    assert run(tmp_path, "drain", "lines").stdout.splitlines() == ['{"n": 1, "text": "a\\nb"}', '{"n":  2}']


def test_a_reader_that_leaves_gets_what_it_read_and_the_rest_stays(tmp_path: Path) -> None:
    queue = Queue("many", create_new_queue=True, data_dir=tmp_path)
    queue.batch_add_items_to_queue([{"n": n, "text": "x" * 1000} for n in range(5000)])
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}
    drain = subprocess.Popen(
        command("drain", "many", "--batch-size", "100"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert drain.stdout
    read = [json.loads(drain.stdout.readline())["n"] for _ in range(150)]
    drain.stdout.close()
    assert drain.stderr
    drain.stderr.read()
    assert drain.wait(30) == 1
    left = {item.json()["n"] for item in queue.peek(None)}
    assert left | set(read) >= set(range(max(read))), "an item that nobody read is gone"
    stats = queue.stats()
    assert (stats.claimed, stats.pending) == (0, len(left))
    assert all(item.attempts == 0 for item in queue.peek(None))


def test_ctrl_c_leaves_nothing_claimed_and_nothing_lost(tmp_path: Path) -> None:
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}
    for attempt in range(4):
        queue = Queue(f"many{attempt}", create_new_queue=True, data_dir=tmp_path)
        queue.batch_add_items_to_queue([{"n": n} for n in range(20_000)])
        log = tmp_path / f"{queue.name}.ndjson"
        with log.open("wb") as out:
            drain = subprocess.Popen(
                command("drain", queue.name, "--batch-size", "20"), stdout=out, stderr=subprocess.PIPE, env=environment
            )
            while not log.stat().st_size:
                time.sleep(0.01)
            time.sleep(random.random() / 2)
            drain.send_signal(signal.SIGINT)
            _, errors = drain.communicate(timeout=60)
        assert (drain.returncode, errors.strip()) == (130, b"")
        left = {item.json()["n"] for item in queue.peek(None, "pending")}
        assert left | set(numbers(log.read_text())) == set(range(20_000))
        assert queue.stats().claimed == 0


def test_a_second_ctrl_c_ends_the_wait_for_a_queue_that_is_held(queue: Queue, tmp_path: Path) -> None:
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}
    with queue.opened():
        drain = subprocess.Popen(command("drain", "work"), stderr=subprocess.PIPE, env=environment)
        while not is_locked(queue.path.with_suffix(".turn")):
            time.sleep(0.05)
        began = time.monotonic()
        while drain.poll() is None:
            drain.send_signal(signal.SIGINT)
            time.sleep(0.5)
        # A third one may come while it is ending.
        assert drain.returncode in (130, -signal.SIGINT)
        assert time.monotonic() - began < 20


def test_a_lease_says_how_long_others_wait(tmp_path: Path) -> None:
    queue = Queue("leased", create_new_queue=True, data_dir=tmp_path)
    queue.batch_add_items_to_queue([{"n": n, "text": "x" * 100_000} for n in range(10)])
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(tmp_path)}
    drain = subprocess.Popen(command("drain", "leased", "--lease", "1000"), stdout=subprocess.PIPE, env=environment)
    assert drain.stdout
    drain.stdout.read(10)
    (first, *_) = queue.peek(1, "claimed")
    assert first.lease_until
    assert 900 < (first.lease_until - first.created_at).total_seconds() < 1100
    drain.kill()
    drain.stdout.close()
    drain.wait()
    assert queue.stats().claimed == 10


@pytest.mark.parametrize(
    ("options", "pending", "dead"),
    [((), 10, 0), (("--dead",), 8, 0), (("--expired",), 9, 1), (("--dead", "--expired"), 10, 0)],
)
def test_requeue(queue: Queue, tmp_path: Path, options: tuple[str, ...], pending: int, dead: int) -> None:
    run(tmp_path, "requeue", "work", *options)
    stats = queue.stats()
    assert (stats.pending, stats.dead) == (pending, dead)


@pytest.mark.parametrize(("status", "left"), [("pending", 3), ("claimed", 8), ("dead", 9), ("all", 0)])
def test_purge(queue: Queue, tmp_path: Path, status: str, left: int) -> None:
    refused = run(tmp_path, "purge", "work", "--status", status, code=2)
    assert "--yes" in refused.stderr
    assert len(queue.peek(None)) == 10
    assert f"{10 - left} items" in run(tmp_path, "purge", "work", "--status", status, "--yes").stdout
    assert len(queue.peek(None)) == left


@pytest.mark.parametrize(
    "arguments", [("stats",), ("peek",), ("drain",), ("requeue",), ("purge", "--status", "all", "--yes")]
)
def test_a_queue_that_is_not_there_is_told_with_those_that_are(
    queue: Queue, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run(tmp_path, arguments[0], "nobody", *arguments[1:], code=2)
    assert result.stderr.count("\n") == 1
    assert "nobody" in result.stderr
    assert "work" in result.stderr
