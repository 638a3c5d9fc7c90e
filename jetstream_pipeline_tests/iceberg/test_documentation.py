"""The page on Iceberg: its example runs, and names every command and option."""

import re
import subprocess
import sys
from pathlib import Path

import click

from jetstream_pipeline.cli.iceberg import iceberg
from jetstream_pipeline.iceberg.sync import sync
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.cli.commands import fill
from jetstream_pipeline_tests.iceberg.reading import SQLITE

PAGE = (Path(__file__).parents[2] / "docs" / "iceberg.md").read_text()


def test_the_example_reads_a_table(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    fill(data)
    sync(SQLITE, data, "network", ["posts"])
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "len" in ran.stdout


def test_every_command_and_option_is_named() -> None:
    names = [f"iceberg {name}" for name in iceberg.commands]
    for command in iceberg.commands.values():
        names += [name for one in command.params if isinstance(one, click.Option) for name in one.opts]
    assert [name for name in names if name not in PAGE] == []
