"""The command `replay` in a process of its own, for tests of what can happen to one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from jetstream_pipeline.simulator import SimulatedEvent, Simulator
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.windows import rows_of

PROGRAM = "jetstream-pipeline"
COLUMNS = ["seq", "time_us", "did", "kind", "operation", "collection", "rkey", "rev", "cid", "record", "payload"]

_LAUNCHER = f"""
import sys
from jetstream_pipeline.cli import main, replay, windows
from jetstream_pipeline.jetstream import connection
from jetstream_pipeline.storage import staging
connection.AT_ONCE = staging._PART_ROWS = 500
windows._PROGRESS_SEC = float("inf")
{{first}}
main.run(main.cli, "{PROGRAM}")
"""


def started(
    folder: Path,
    host: Simulator,
    window: Window,
    *options: str,
    first: str = "",
    stdout: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Replays all events of a window into the data directory `folder`, with frequent durable parts; runs the code
    `first` before it begins."""
    span = ["--start", window.start.isoformat(), "--end", window.end.isoformat(), "--json"]
    command = [sys.executable, "-c", _LAUNCHER.format(first=first), "replay", *span, "-i", host.address, *options]
    variables = os.environ | {"JETSTREAM_DATA_DIR": str(folder), "JETSTREAM_COLLECTIONS": ""}
    return subprocess.Popen(command, env=variables, stdout=stdout, stderr=subprocess.PIPE, text=True)


def signalled(parts: int, how: signal.Signals = signal.SIGKILL) -> str:
    """Code for a run that gets a signal as soon as it has made so many parts durable."""
    return f"""
import os
write, written = staging.StagedWindow._write_part, []
def signalled(*given):
    write(*given)
    written.append(given)
    if len(written) == {parts}:
        os.kill(os.getpid(), {how:d})
staging.StagedWindow._write_part = signalled
"""


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    said, complained = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, said, complained)


def run(folder: Path, host: Simulator, window: Window, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """As `started`, to its end."""
    return ended(started(folder, host, window, *options, **more))


def said(events: Iterable[SimulatedEvent]) -> list[tuple[object, ...]]:
    """What a window's file has to hold, where these are the window's events."""
    return [
        (
            e.seq,
            e.time_us,
            e.did,
            e.kind,
            e.operation,
            e.collection,
            e.rkey,
            e.rev,
            e.cid,
            e.record_json,
            e.payload_json,
        )
        for e in events
    ]


def stored(folder: Path, window: Window) -> list[tuple[object, ...]]:
    """What it holds."""
    table = rows_of(DataDirectory(folder).lake.events_path("network", window), COLUMNS)
    return list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))


def files(folder: Path) -> Mapping[Path, bytes]:
    """Every file below a folder, and what is in it."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
