"""Windows fed by processes that are killed, or at it at once, while others take items: nothing is lost or doubled."""

import random
import subprocess
import sys
import time
from pathlib import Path

from jetstream_pipeline import Queue
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.items import QueueItem
from jetstream_pipeline_tests.feeding.contents import contain, numbers

_EVENTS = 6_000
_BATCH_ITEMS = 10
_FEW = 200
_KILLS = 20
_MOST_BATCHES = 15

_SETUP = f"""
import os, random, signal, sys, threading, time
from pathlib import Path
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.feeding import feeding
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window

feeding._BATCH_ITEMS = {_BATCH_ITEMS}

def feed():
    window = Window.from_key("2026-07-04-14:00")
    return feeding.feed_window("network", window, Feed("work"), DataDirectory(Path(sys.argv[1])))
"""
_KILLED = _SETUP + (
    f"""
def dying(batches, after, seconds):
    def given(events):
        for number, items in enumerate(batches(events)):
            if number == after:
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            yield items
    return given

random.seed(int(sys.argv[2]))
for _ in range({_KILLS}):
    after, seconds = random.randrange({_MOST_BATCHES}), random.uniform(0, 0.02)
    child = os.fork()
    if not child:
        feeding._batches = dying(feeding._batches, after, seconds)
        feed()
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
feeding._BATCH_ITEMS = {_EVENTS}
feed()
"""
)
_PATIENT = _SETUP + (
    """
while True:
    try:
        print(feed().added)
        break
    except PipelineError as error:
        if not error.passing:
            raise
        print(0, flush=True)
        time.sleep(0.05)
"""
)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def taken_while(process: subprocess.Popen[str], queue: Queue) -> list[QueueItem]:
    """What a consumer acknowledges until the process has ended, and what is left then."""
    taken: list[QueueItem] = []
    while process.poll() is None:
        items = queue.claim(random.randint(1, 200))
        assert queue.ack(items) == []
        taken += items
        time.sleep(0.02)
    return [*taken, *queue.peek(None)]


def test_killed_again_and_again_while_others_acknowledge(tmp_path: Path) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    contain(DataDirectory(tmp_path), range(_EVENTS))
    queue = Queue("work", create_new_queue=True, data_dir=tmp_path)
    process = start(_KILLED, tmp_path, seed)
    items = taken_while(process, queue)
    told, failure = process.communicate()
    assert process.returncode == 0, failure
    assert told.split() == ["9"] * _KILLS, "what ended was not killed: there was not enough to do"
    assert numbers(items) == list(range(_EVENTS))


def test_two_processes_at_once_share_the_work_or_wait(tmp_path: Path) -> None:
    contain(DataDirectory(tmp_path), range(_FEW))
    processes = [start(_PATIENT, tmp_path) for _ in range(2)]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    added = sorted(int(told.split()[-1]) for told, _ in said)
    assert added == [0, _FEW]
    assert numbers(Queue("work", data_dir=tmp_path).peek(None)) == list(range(_FEW))
