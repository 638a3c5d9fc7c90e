"""Commands in this process, and a lake for them whose tables can be older than its events."""

import sys
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from jetstream_pipeline.cli.main import cli, main
from jetstream_pipeline.orchestration import loading
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.stream_filter import StreamFilter, write_filter
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.windows import HOUR, commit, store

NEXT = Window.hour(HOUR.end)


def fill(data: DataDirectory) -> None:
    """Two windows of one post each, the first one with its tables."""
    for window in (HOUR, NEXT):
        store(data, [commit('{"text":"first"}')], window)
    for table in TABLES:
        build_table(table, "network", HOUR, data.lake)
    write_filter(data.lake.stream_path("network"), StreamFilter(fingerprint="of all", collections=(), dids=()))


def grow(data: DataDirectory, *messages: bytes) -> None:
    """The first window gets another post, and its tables know nothing of it."""
    store(data, [commit('{"text":"first"}'), commit('{"text":"second"}', number=1), *messages])


def texts(data: DataDirectory) -> list[str]:
    path = data.lake.table_path("network", "posts", HOUR)
    texts: list[str] = pq.ParquetFile(path).read(columns=["text"])["text"].to_pylist()
    return texts


def told(folder: Path, *arguments: str, **environment: str) -> CompletedProcess[str]:
    """What the program tells whose data lies in a folder, and how it ends: the same, without the second that a process
    of its own takes to begin."""
    variables = {"JETSTREAM_DATA_DIR": str(folder), **environment}
    with (
        patch.object(sys, "argv", ["jetstream-pipeline", *arguments]),
        CliRunner().isolation(env=variables) as (out, err, _),
    ):
        code: object = None
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()
        sys.stderr.flush()
        texts = [stream.getvalue().decode() for stream in (out, err)]
    return CompletedProcess(arguments, code if isinstance(code, int) else 0 if code is None else 1, *texts)


def run(data: DataDirectory, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"JETSTREAM_DATA_DIR": str(data.root), **environment})


def declare(monkeypatch: pytest.MonkeyPatch, *streams: Stream) -> None:
    """Let these be the streams that the package declares."""

    def declared_streams(_: Path, __: Settings) -> list[Stream]:
        return list(streams)

    monkeypatch.setattr(loading, "declared_streams", declared_streams)
