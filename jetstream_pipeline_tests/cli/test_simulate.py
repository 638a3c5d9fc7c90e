"""`simulate` serves the host that its options describe."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from jetstream_pipeline.simulator import Network, Simulator, Witness
from jetstream_pipeline_tests.cli.commands import told
from jetstream_pipeline_tests.cli.test_main import simulating
from jetstream_pipeline_tests.simulator.archive_client import ArchiveClient

V2 = "xrpc/network.bsky.jetstream.subscribeEvents"


def first_events(host: str, cursor: int, number: int, path: str = "subscribe") -> list[dict[str, Any]]:
    with connect(f"{host}/{path}?cursor={cursor}", compression=None, open_timeout=60, close_timeout=0.2) as connection:
        return [json.loads(connection.recv(30)) for _ in range(number)]


def an_hour_ago() -> int:
    return int((time.time() - 3600) * 1_000_000)


def test_an_old_host_speaks_the_first_wire_only_and_numbers_nothing() -> None:
    cursor = an_hour_ago()
    with simulating("--old") as host:
        assert "cursor" not in first_events(host, cursor, 1)[0]
        with pytest.raises(InvalidStatus) as refused:
            first_events(host, cursor, 1, V2)
        assert refused.value.response.status_code == 404
    with simulating() as host:
        assert "cursor" in first_events(host, cursor, 1)[0]
        assert first_events(host, cursor, 1, V2)[0]["payload"]["seq"] == first_events(host, cursor, 1)[0]["cursor"]


@pytest.mark.parametrize(
    ("options", "described"),
    [
        (("--offset", "2.5"), {"witness": Witness(offset=timedelta(seconds=2.5))}),
        (("--offset", "-60"), {"witness": Witness(offset=timedelta(seconds=-60))}),
        (("--blind", "0.4"), {"blind": 0.4}),
    ],
)
def test_a_host_sees_late_or_not_everything(options: tuple[str, ...], described: dict[str, Any]) -> None:
    cursor = an_hour_ago()
    events = Simulator(Network(rate=2), **described).events(cursor, cursor + 600_000_000)
    expected = [json.loads(event.message) for event, _ in zip(events, range(300), strict=False)]
    ordinary = [json.loads(event.message) for event in Network(rate=2).events(cursor, cursor + 600_000_000)]
    assert expected != ordinary[:300]
    with simulating(*options) as host:
        assert first_events(host, cursor, 300) == expected


def test_a_host_sends_so_many_events_a_second_to_all_of_its_subscribers_together() -> None:
    """But for the first ones, which go at once: at most a write's."""
    with simulating("--rate", "100", "--events-per-second", "5000") as host, ThreadPoolExecutor(2) as both:
        began = time.monotonic()
        list(both.map(lambda _: first_events(host, an_hour_ago(), 5000), range(2)))
        assert time.monotonic() - began >= (2 * 5000 - 2 * 2048) / 5000


@pytest.mark.parametrize(
    "options",
    [("--blind", "2"), ("--blind", "nan"), ("--offset", "nan"), ("--offset", "x"), ("--events-per-second", "0")],
)
def test_numbers_that_describe_no_host_are_refused_in_one_line(options: tuple[str, ...], tmp_path: Path) -> None:
    result = told(tmp_path, "simulate", "--port", "0", *options)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_host_has_an_archive() -> None:
    since = datetime.now(UTC) - timedelta(minutes=10)
    options = ("--archive-since", f"{since:%Y-%m-%dT%H:%M:%S}", "--segment-minutes", "2", "--api-token", "s3cret")
    with simulating(*options, "--cut-download", "100") as host:
        client, stranger = ArchiveClient(host, "s3cret"), ArchiveClient(host)
        listed = stranger.listed()
        assert len(listed) in (4, 5)
        assert stranger.segment(listed[0]["name"]).status_code == 401
        with pytest.raises(httpx2.RemoteProtocolError):
            client.segment(listed[0]["name"])
        rows = client.file(listed[0]["name"]).all_rows()
    network = Network(rate=2)
    minute = int(since.timestamp()) // 60
    assert [row.seq for row in rows] == [event.seq for one in (minute, minute + 1) for event in network.page(one)]


@pytest.mark.parametrize(
    "options",
    [
        ("--api-token", "t"),
        ("--cut-download", "5"),
        ("--segment-minutes", "5"),
        ("--archive-since", "x"),
        ("--archive-since", "2026-11-01", "--old"),
    ],
)
def test_an_archive_that_cannot_be_is_refused_in_one_line(options: tuple[str, ...], tmp_path: Path) -> None:
    result = told(tmp_path, "simulate", "--port", "0", *options)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "archive" in result.stderr or "is not a time" in result.stderr
