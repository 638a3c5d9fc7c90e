"""What tests of the archive begin with."""

from collections.abc import Iterator

import pytest

from jetstream_pipeline_tests.archive.server import Segment, Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(*map(Segment.made_up, range(5))) as server:
        yield server
