"""Producers and consumers in processes of their own, killed at any moment: nothing is lost, nothing done twice."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline_tests.queue_places import DUCKDB, POSTGRES

_SOAK_SEC = {DUCKDB: 12.0, POSTGRES: 6.0}
_KILL_EVERY_SEC = 2.0
_ENOUGH = 100
_LONGEST_SEC = 120
_BATCH = 20

_PRODUCER = """
import os, sys
from jetstream_pipeline import Queue
name, folder, log = sys.argv[1:4]
queue = Queue("work", data_dir=folder)
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
number = 0
while True:
    names = [f"{name}-{number + n}" for n in range(BATCH)]
    number += BATCH
    queue.batch_add_items_to_queue([{"name": one} for one in names], idempotency_key=names[0])
    os.write(log, "".join(f"{one}\\n" for one in names).encode())
""".replace("BATCH", str(_BATCH))

_CONSUMER = """
import os, random, sys
from jetstream_pipeline import Queue
name, folder, log = sys.argv[1:4]
queue = Queue("work", data_dir=folder, max_attempts=1000)
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while True:
    items = queue.claim(BATCH, lease=3)
    if items and random.random() < 0.05:
        queue.fail(items, "try again")
        continue
    os.write(log, "".join(f"try {item.json()['name']}\\n" for item in items).encode())
    lost = {item.id for item in queue.ack(items)}
    os.write(log, "".join(f"done {item.json()['name']}\\n" for item in items if item.id not in lost).encode())
""".replace("BATCH", str(_BATCH))


def lines(folder: Path, pattern: str, prefix: str = "") -> list[str]:
    texts = "".join(path.read_text() for path in sorted(folder.glob(pattern))).splitlines()
    return [text.removeprefix(prefix) for text in texts if text.startswith(prefix)]


def test_producers_and_consumers_of_whom_two_are_killed_every_few_seconds(
    tmp_path: Path, queue_place: str, request: pytest.FixtureRequest
) -> None:
    """A database's server ends at once, too, in the middle of it."""
    queue = Queue("work", create_new_queue=True, data_dir=tmp_path, max_attempts=1000)
    started = 0

    def start(script: str) -> tuple[str, Path, subprocess.Popen[bytes]]:
        nonlocal started
        started += 1
        log = tmp_path / f"{'added' if script is _PRODUCER else 'taken'}-{started}.log"
        return script, log, subprocess.Popen([sys.executable, "-c", script, str(started), str(tmp_path), str(log)])

    def enough() -> bool:
        return min(len(lines(tmp_path, "added-*.log")), len(lines(tmp_path, "taken-*.log", "done "))) > _ENOUGH

    running = [start(script) for script in (_PRODUCER, _CONSUMER) * (4 if queue_place == DUCKDB else 2)]
    began = time.monotonic()
    deadline = began + float(os.environ.get("JETSTREAM_TEST_SOAK_SEC", _SOAK_SEC[queue_place]))
    killed = 0
    while time.monotonic() < deadline or not enough():
        assert time.monotonic() < began + _LONGEST_SEC
        time.sleep(_KILL_EVERY_SEC)
        at_work = [place for place, (_, log, _) in enumerate(running) if log.exists() and log.stat().st_size]
        for place in random.sample(at_work, min(2, len(at_work))):
            script, _, process = running[place]
            process.kill()
            assert process.wait() == -9, "a process ended by itself"
            killed += 1
            running[place] = start(script)
        if queue_place == POSTGRES:
            request.getfixturevalue("postgres").restart()
    for *_, process in running:
        process.kill()
        assert process.wait() == -9, "a process ended by itself"

    told_added = lines(tmp_path, "added-*.log")
    done = Counter(lines(tmp_path, "taken-*.log", "done "))
    tried = set(lines(tmp_path, "taken-*.log", "try "))
    left = Counter(json.loads(item.payload)["name"] for item in queue.peek(None))
    stats = queue.stats()
    assert max((done + left).values()) == 1, "an item was acknowledged twice, or is still there after it"
    vanished = set(told_added) - set(done) - set(left)
    assert vanished <= tried, "an item is gone that nobody was about to acknowledge"
    assert len(vanished) <= killed * _BATCH
    assert stats.added == stats.acknowledged + len(queue.peek(None))
    assert stats.acknowledged >= len(done)
    unlogged = stats.added - len(told_added)
    assert 0 <= unlogged <= (killed + len(running)) * _BATCH
    print(f"{stats.added} added, {stats.acknowledged} acknowledged, {killed} killed, {len(vanished)} in flight")
