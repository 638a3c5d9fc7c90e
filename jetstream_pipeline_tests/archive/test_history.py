"""What an archive has of a subscription, and what shows that its end is past."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.history import History
from jetstream_pipeline.events.parts import Part
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline_tests.archive.rows import archiving
from jetstream_pipeline_tests.archive.segments import START_US, Row, rows
from jetstream_pipeline_tests.archive.server import Server

_SECOND = 1_000_000


def parts(server: Server, folder: Path, until_us: int) -> list[Part]:
    async def read() -> list[Part]:
        history = History(server.host, Subscription(dids=("did:plc:b",)), Access(folder))
        await history.look()
        async with aclosing(history.parts(START_US, until_us)) as found:
            return [part async for part in found]

    return asyncio.run(read())


def test_a_row_that_is_no_event_is_told_once(tmp_path: Path) -> None:
    """Also where the block is looked at once more, whatever it is about."""
    found = [
        *rows(9),
        Row(seq=10, kind=9, witnessed_us=START_US + 10),
        Row(seq=11, witnessed_us=START_US + 2 * _SECOND),
    ]
    with archiving(found) as server:
        past, not_past = parts(server, tmp_path, START_US), parts(server, tmp_path, START_US + 60 * _SECOND)
    assert [seq for part in past for seq in part.events["seq"].to_pylist()] == [*range(2, 10), 11]
    assert [seq for part in not_past for seq in part.events["seq"].to_pylist()] == []
    assert [sum(len(part.rejected) for part in one) for one in (past, not_past)] == [1, 1]
