"""The page on Iceberg: its example runs, and names every command and option."""

import re
from pathlib import Path

import click
import pytest

from jetstream_pipeline.cli.iceberg import iceberg
from jetstream_pipeline.iceberg.sync import sync
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline_tests.iceberg.reading import SQLITE
from jetstream_pipeline_tests.windows import HOUR, commit, store

PAGE = (Path(__file__).parents[2] / "docs" / "iceberg.md").read_text()


def test_the_example_reads_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataDirectory(tmp_path / "data")
    store(data, [commit('{"text":"one"}')])
    build_table(next(table for table in TABLES if table.name == "posts"), "network", HOUR, data.lake)
    sync(SQLITE, data, "network", ["posts"])
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert "len" in capsys.readouterr().out


def test_every_command_and_option_is_named() -> None:
    names = [f"iceberg {name}" for name in iceberg.commands]
    for command in iceberg.commands.values():
        names += [name for one in command.params if isinstance(one, click.Option) for name in one.opts]
    assert [name for name in names if name not in PAGE] == []
