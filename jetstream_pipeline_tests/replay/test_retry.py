"""What a newer version of the program can read goes from quarantine to where it belongs, once."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events import decode as decoding
from jetstream_pipeline.events.wires import Fields, Wire, read_v1
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay import retry as retrying
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.retry import retry
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, keep, quarantined, read
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.storage.summary import read_summary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.hostile import identity, sending, serving

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
SECOND = 1_000_000
TIMES = range(WINDOW.start_us - 50 * SECOND, WINDOW.end_us + 100 * SECOND, 10 * SECOND)


def of_tomorrow(time_us: int) -> str:
    """An event in a shape that only the next version of the program knows."""
    return identity(time_us, time_us, "did:plc:tomorrow").replace('"kind"', '"sort"')


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """A window with two messages of tomorrow, one of them twice, and one that stays garbage."""
    messages = [identity(time, time) for time in TIMES]
    place = TIMES.index(WINDOW.start_us) + 100
    late, early = of_tomorrow(TIMES[place + 50] + 1), of_tomorrow(TIMES[place - 1] + 1)
    messages[place + 51 : place + 51] = [late, late.replace("{", "{ ", 1), "garbage"]
    messages[place:place] = [early]
    data = DataDirectory(tmp_path)
    with serving(sending(messages)) as host:
        summary = replay_window("network", Subscription(), WINDOW, hosts=[host], data=data)
    assert summary.quarantined == 4
    return data


@pytest.fixture
def tomorrow(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_later(text: bytes) -> Fields:
        return read_v1(text.replace(b'"sort"', b'"kind"'))

    readers: dict[Wire, Callable[[bytes], object]] = {**decoding._READ, Wire.V1: read_later}
    monkeypatch.setattr(decoding, "_READ", readers)


def stored(data: DataDirectory) -> list[tuple[str, int]]:
    rows = pq.ParquetFile(data.lake.events_path("network", WINDOW)).read(columns=["did", "time_us"]).to_pylist()
    return [(row["did"], row["time_us"]) for row in rows]


def test_what_still_cannot_be_read_stays(data: DataDirectory) -> None:
    before = stored(data)
    (retried,) = retry(data, "network")
    assert (retried.messages, retried.understood, retried.added, retried.note) == (4, 0, 0, None)
    assert stored(data) == before


@pytest.mark.usefixtures("tomorrow")
def test_what_can_be_read_now_goes_into_its_window_where_it_was_sent(data: DataDirectory) -> None:
    before = stored(data)
    (retried,) = retry(data, "network")
    assert (retried.window, retried.messages, retried.understood, retried.added) == (WINDOW, 4, 3, 2)
    after = stored(data)
    assert after == sorted(after, key=lambda row: row[1])
    assert set(after) - set(before) == {row for row in after if row[0] == "did:plc:tomorrow"}
    assert len(after) == len(before) + 2
    summary = read_summary(data.lake.events_path("network", WINDOW))
    assert (summary.events, summary.repaired, summary.quarantined) == (len(after), 2, 1)
    assert read(data.quarantine_path("network", WINDOW))["message"].to_pylist() == [b"garbage"]
    (again,) = retry(data, "network")
    assert (again.messages, again.understood) == (1, 0)
    assert stored(data) == after


@pytest.mark.usefixtures("tomorrow")
def test_a_retry_that_died_after_the_window_was_written_adds_nothing_twice(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(retrying.quarantine, "rewrite", die)
        with pytest.raises(RuntimeError):
            list(retry(data, "network"))
    after = stored(data)
    (retried,) = retry(data, "network")
    assert (retried.understood, retried.added) == (3, 0)
    assert stored(data) == after


def test_a_queues_messages_go_into_the_queue_once(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    queue = Queue("posts", create_new_queue=True, data_dir=tmp_path)
    now = datetime.now(UTC)
    messages = [Unreadable(text, "not yet", 7) for text in (identity(WINDOW.start_us, 1).encode(), b"garbage")]
    for wire in (Wire.V1, None):
        keep(quarantined(messages, received_at=now, host="host", wire=wire), data.quarantine_folder("posts"), now)
    retried = list(retry(data, "posts"))
    assert sorted((one.window, one.messages, one.understood, one.added) for one in retried) == [
        (None, 2, 0, 0),
        (None, 2, 1, 1),
    ]
    assert queue.stats().pending == 1
    assert [one.understood for one in retry(data, "posts")] == [0, 0]


def test_a_name_without_quarantine_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no quarantine of nothing"):
        list(retry(DataDirectory(tmp_path), "nothing"))


def run(data: DataDirectory, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jetstream_pipeline", "quarantine", *words]
    environment = os.environ | {"JETSTREAM_DATA_DIR": str(data.root)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_commands_list_what_there_is_and_try_it_again(data: DataDirectory) -> None:
    listed = run(data, "list", "--format", "csv")
    assert listed.returncode == 0, listed.stderr
    header, *rows = listed.stdout.splitlines()
    assert header.startswith("name,reason,messages,bytes")
    assert sum(int(row.split(",")[-4]) for row in rows) == 4
    retried = run(data, "retry", "--json")
    assert retried.returncode == 0, retried.stderr
    assert '"messages":4,"understood":0' in retried.stdout
    refused = run(data, "retry", "nothing")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
