"""Windows are replayed by several processes at once, while others query: each sees whole windows, once."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.window import Window

NETWORK = Network(rate=3)
LAST = Window.hour(datetime.now(UTC) - timedelta(hours=2))
WINDOWS = [Window.hour(LAST.start - timedelta(hours=number)) for number in (3, 2, 1, 0)]

_READER = """
import duckdb, json, sys
seen, wrong, rounds = {}, [], 0
while not wrong:
    with duckdb.connect(sys.argv[1], read_only=True) as connection:
        try:
            found = connection.execute(
                "SELECT date::VARCHAR, hour, count(*), count(DISTINCT seq) FROM events GROUP BY ALL"
            ).fetchall()
        except duckdb.Error as error:
            wrong.append(str(error))
            break
    for date, hour, rows, distinct in found:
        if rows != distinct or seen.setdefault(f"{date} {hour}", rows) != rows:
            wrong.append(f"{date} {hour}: {rows} rows, {distinct} distinct, {seen[f'{date} {hour}']} before")
    rounds += 1
    print(json.dumps([rounds, len(seen), wrong]), flush=True)
print(json.dumps([rounds, len(seen), wrong]), flush=True)
"""


def replaying(windows: list[Window], host: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jetstream_pipeline", "replay", "--json", "--stream", "network", "-i", host]
    span = ["--start", windows[0].start.isoformat(), "--end", windows[-1].end.isoformat()]
    variables = os.environ | {"JETSTREAM_DATA_DIR": str(folder), "JETSTREAM_COLLECTIONS": "app.bsky.*"}
    return subprocess.Popen([*command, *span], env=variables, stdout=subprocess.PIPE, text=True)


def test_two_processes_replay_at_once_twice_while_a_third_queries(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    refresh(data)
    reader = subprocess.Popen([sys.executable, "-c", _READER, str(data.warehouse)], stdout=subprocess.PIPE, text=True)
    with running(Simulator(NETWORK)) as simulator, reader:
        counts: list[list[int]] = []
        for _ in range(2):
            replays = [replaying(half, simulator.address, tmp_path) for half in (WINDOWS[:2], WINDOWS[2:])]
            said = [replay.communicate(timeout=100)[0].splitlines() for replay in replays]
            assert [replay.returncode for replay in replays] == [0, 0]
            counts.append([json.loads(line)["events"] for lines in said for line in lines])
        reader.kill()
        assert reader.stdout
        rounds, windows, wrong = json.loads(reader.stdout.read().splitlines()[-1])
    assert wrong == []
    assert rounds > 10
    assert windows == len(WINDOWS)
    expected = [
        sum(event.collection is None or event.collection.startswith("app.bsky.") for event in events)
        for events in (NETWORK.events(window.start_us, window.end_us) for window in WINDOWS)
    ]
    assert counts == [expected, expected]
