"""A segment of an archive becomes a file of the lake: all of its events of the filter, what it was made of, once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.segments import list_segments, read_segment, segment_name
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import read_segment_summary
from jetstream_pipeline_tests.replay.commands import COLUMNS, said
from jetstream_pipeline_tests.windows import rows_of

NETWORK = Network(seed=6, rate=4)
START = datetime(2026, 7, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    now = START + timedelta(minutes=11)
    with running(Simulator(NETWORK, clock=now.timestamp, archive_since=START, segment_minutes=5)) as simulator:
        yield simulator


@pytest.mark.parametrize(
    "subscription",
    [Subscription(), Subscription(("app.bsky.feed.like",), kinds=("commit",)), Subscription(("com.nobody.has.this",))],
    ids=["all", "likes", "accounts"],
)
def test_a_segment_holds_what_the_filter_lets_through(
    data: DataDirectory, host: Simulator, subscription: Subscription
) -> None:
    access = Access(data.archive)
    server, listed = list_segments([Host.parse("ws://127.0.0.1:9"), Host.parse(host.address)][1:], access)
    assert [segment_name(one) for one in listed] == ["seg_0000000000", "seg_0000000001"]
    for segment in listed:
        summary = read_segment("network", subscription, segment, host=server, data=data, access=access)
        path = data.lake.segment_path("network", segment_name(segment))
        assert read_segment_summary(path) == summary
        assert (summary.checksum, summary.fingerprint) == (segment.checksum, subscription.fingerprint)
        events = host.archived_events(segment.min_witnessed_us, segment.max_witnessed_us + 1)
        wanted = [
            row
            for row in said(events)
            if (not subscription.kinds or row[3] == "commit")
            and (row[3] != "commit" or not subscription.collections or row[5] in subscription.collections)
        ]
        table = rows_of(path, COLUMNS)
        assert list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)) == wanted
        assert summary.events == len(wanted)
    assert list(data.lake.segments("network")) == [
        data.lake.segment_path("network", segment_name(segment)) for segment in listed
    ]


def test_hosts_without_an_archive_are_passed_over(data: DataDirectory, host: Simulator) -> None:
    with running(Simulator(NETWORK)) as without:
        servers = [Host.parse(one.address) for one in (without, host)]
        assert list_segments(servers, Access(data.archive))[0] == servers[1]
        with pytest.raises(InvalidInput, match="none of these hosts has an archive"):
            list_segments(servers[:1], Access(data.archive))


def test_a_segment_takes_the_place_of_what_was_read_before(data: DataDirectory, host: Simulator) -> None:
    access = Access(data.archive)
    server, (segment, *_) = list_segments([Host.parse(host.address)], access)
    path = data.lake.segment_path("network", segment_name(segment))
    read_segment("network", Subscription(("app.bsky.feed.post",)), segment, host=server, data=data, access=access)
    before = pq.ParquetFile(path).metadata.num_rows
    summary = read_segment("network", Subscription(), segment, host=server, data=data, access=access)
    assert pq.ParquetFile(path).metadata.num_rows == summary.events == segment.event_count > before
