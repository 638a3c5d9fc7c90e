"""What most tests begin with."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jetstream_pipeline.jetstream import transport
from jetstream_pipeline.jetstream.transport import Transport
from jetstream_pipeline.storage.layout import DataDirectory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--transport", choices=list(Transport), help="what reads the hosts' websockets in every test")


def pytest_configure(config: pytest.Config) -> None:
    if chosen := config.getoption("--transport"):
        transport.DEFAULT = Transport(chosen)
        os.environ["JETSTREAM_TRANSPORT"] = chosen


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """An empty data directory."""
    return DataDirectory(tmp_path)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is entered here ends with the test."""
    with ExitStack() as stack:
        yield stack
