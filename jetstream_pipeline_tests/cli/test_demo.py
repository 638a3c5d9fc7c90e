"""The demonstration does what the README says, and leaves nothing behind but its data."""

import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Self

import pytest

from jetstream_pipeline.cli import demo as module
from jetstream_pipeline.settings import described
from jetstream_pipeline.storage.layout import DataDirectory

_FEW = "from jetstream_pipeline.cli import demo, main; demo._RATE = 2.0; main.main()"
COMMAND = [sys.executable, "-u", "-c", _FEW, "demo"]
"""The demonstration with a tenth of its events."""


def processes_of(folder: Path) -> list[str]:
    """The processes that name the folder on their command line; none where the system does not tell (no /proc)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(folder) in (line := path.read_text(errors="replace")):
                found.append(line)
    return found


def none_left(folder: Path) -> bool:
    until = time.monotonic() + 60
    while (left := processes_of(folder)) and time.monotonic() < until:
        time.sleep(0.2)
    return not left


@pytest.mark.parametrize(("minute", "away"), [(0, "30"), (4, "34"), (5, "0"), (59, "54")])
def test_no_variable_is_left_to_the_environment_and_the_schedule_is_not_met(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minute: int, away: str
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2026, 7, 4, 14, minute, tzinfo=tz)

    monkeypatch.setattr(module, "datetime", Clock)
    variables = module._variables(tmp_path, "ws://127.0.0.1:9")
    assert variables == {name: default for name, _, default in described()} | {
        "JETSTREAM_DATA_DIR": str(tmp_path),
        "JETSTREAM_HOSTS": "ws://127.0.0.1:9",
        "JETSTREAM_LOOK_BACK_HOURS": "0",
        "JETSTREAM_SETTLE_MINUTES": away,
    }


@pytest.mark.timeout(300)
def test_three_hours_are_ingested_by_dagster_and_their_tables_built(tmp_path: Path) -> None:
    (tmp_path / "data" / "demo" / "of an earlier run").mkdir(parents=True)
    done = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"│ complete │", done.stdout)) == 3
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["demo"]
    data = DataDirectory(tmp_path / "data" / "demo")
    assert not (data.root / "of an earlier run").exists()
    assert len(list(data.lake.root.glob("network/*/date=*/hour=*/*.parquet"))) == 3 * 9
    assert none_left(tmp_path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="this system does not list processes in /proc")
def test_a_demonstration_that_is_ended_early_leaves_nothing_running(tmp_path: Path) -> None:
    with subprocess.Popen(COMMAND, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout
        assert any("its daemon starts" in line for line in demo.stdout)
        demo.stdout.readline()
        assert processes_of(tmp_path)
        second = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (second.returncode, "another demo is at work" in second.stderr) == (2, True)
        demo.send_signal(signal.SIGHUP)
        assert demo.wait(60) == 128 + signal.SIGHUP
    assert none_left(tmp_path)
