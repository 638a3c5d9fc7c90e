"""Windows beyond the reach of the stream come from the archive, the same as they would have come from the stream."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.errors import ArchiveError
from jetstream_pipeline.connector.connector import JetstreamConnector
from jetstream_pipeline.errors import PipelineError
from jetstream_pipeline.jetstream.client import Span, StreamClient
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.resumption import Resumption
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.simulator import Faults, Network, Simulator, running
from jetstream_pipeline.simulator.faults import Compact, Corrupt, CutAfterBytes, Refuse
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.replay.commands import COLUMNS, ended, run, said, started, stored
from jetstream_pipeline_tests.windows import rows_of

NETWORK = Network(seed=5, rate=2)
OLD = Window.hour(datetime(2026, 7, 4, 12, tzinfo=UTC))
RECENT = Window.hour(datetime.now(UTC) - timedelta(hours=6))
HOUR = timedelta(hours=1)
FILTERS = [
    Subscription(),
    Subscription(("app.bsky.graph.block",)),
    Subscription(("app.bsky.feed.*",), kinds=("commit",)),
]


def archiving(window: Window, *, ago: timedelta = 2 * HOUR / 3, **more: Any) -> Simulator:
    """A host whose stream reaches back for some minutes, so long after the window, and its archive to before it."""
    reach = {"lookback": HOUR / 3, "archive_since": window.start - HOUR / 3}
    settings: dict[str, Any] = reach | {"segment_minutes": 20} | more
    return Simulator(NETWORK, clock=lambda: (window.end + ago).timestamp(), **settings)


class Nowhere:
    """A host that is down."""

    address = "ws://127.0.0.1:9"


def replayed(
    data: DataDirectory,
    hosts: Sequence[Simulator | Nowhere],
    window: Window = OLD,
    subscription: Subscription = FILTERS[0],
    token: str | None = None,
    notes: list[str] | None = None,
) -> WindowSummary:
    return replay_window(
        "network",
        subscription,
        window,
        hosts=[Host.parse(host.address) for host in hosts],
        data=data,
        options=Options(archive=Access(data.archive, SecretStr(token) if token else None)),
        on_progress=lambda progress: notes.append(progress.note) if notes is not None and progress.note else None,
    )


def rows(data: DataDirectory, window: Window = OLD) -> pa.Table:
    return rows_of(data.lake.events_path("network", window), COLUMNS)


def enumerated(window: Window = OLD) -> list[tuple[object, ...]]:
    """But for halves of surrogate pairs, which no archive can hold."""
    rows = said(NETWORK.events(window.start_us, window.end_us))
    return [tuple(one.replace("\\ud83d", "\ufffd") if isinstance(one, str) else one for one in row) for row in rows]


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    with running(archiving(OLD)) as simulator:
        yield simulator


@pytest.mark.parametrize("subscription", FILTERS, ids=["all", "narrow", "commits"])
def test_the_archive_and_the_stream_give_the_same_rows(
    tmp_path: Path, host: Simulator, subscription: Subscription
) -> None:
    archived, streamed = DataDirectory(tmp_path / "archived"), DataDirectory(tmp_path / "streamed")
    summary = replayed(archived, [host], subscription=subscription)
    assert (summary.state, summary.wire) == (WindowState.COMPLETE, "archive")
    (part,) = summary.proof.archived
    assert part.host == summary.host
    assert part.first_time < OLD.start < OLD.end < part.last_time
    with running(archiving(OLD, lookback=10 * HOUR, archive_since=None)) as streaming:
        summary = replayed(streamed, [streaming], subscription=subscription)
    assert (summary.state, summary.wire, summary.proof.archived) == (WindowState.COMPLETE, "v2", ())
    assert rows(archived).equals(rows(streamed))
    assert rows(archived).num_rows > 0


def test_a_window_that_is_young_enough_comes_from_the_stream_unless_that_has_lost_it(data: DataDirectory) -> None:
    with running(archiving(RECENT, lookback=30 * HOUR)) as simulator:
        assert replayed(data, [simulator], RECENT).wire == "v2"
    with running(archiving(RECENT)) as simulator:
        assert replayed(data, [simulator], RECENT).wire == "archive"
    assert stored(data.root, RECENT) == enumerated(RECENT)


def test_what_is_not_sealed_yet_comes_from_the_stream(data: DataDirectory) -> None:
    with running(archiving(OLD, ago=HOUR / 4, segment_minutes=50, lookback=HOUR)) as simulator:
        summary = replayed(data, [simulator])
    assert (summary.state, summary.wire) == (WindowState.COMPLETE, "archive,v2")
    (part,) = summary.proof.archived
    assert OLD.start < part.last_time < OLD.end
    assert stored(data.root, OLD) == enumerated()


def test_a_narrow_filter_downloads_little(data: DataDirectory) -> None:
    with running(archiving(OLD, block_events=200)) as simulator:
        did = next(event.did for event in NETWORK.events(OLD.start_us, OLD.end_us))
        summary = replayed(data, [simulator], subscription=Subscription(dids=(did,)))
    assert summary.state is WindowState.COMPLETE
    assert {row[2] for row in stored(data.root, OLD)} == {did}
    files = [path for path in data.archive.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".jss"]
    assert sum(path.stat().st_size for path in files) < 400_000


def test_an_archive_that_begins_within_the_window_is_said_to(data: DataDirectory) -> None:
    with running(archiving(OLD, archive_since=OLD.start + HOUR / 2)) as simulator:
        summary = replayed(data, [simulator])
    assert summary.state is WindowState.TRUNCATED
    assert "begins at 2026-07-04 12:30:00 UTC" in summary.reason


def test_without_a_token_a_closed_archive_is_told_and_passed_over(tmp_path: Path) -> None:
    notes: list[str] = []
    with ExitStack() as stack:
        closed = stack.enter_context(running(archiving(OLD, api_token="open-sesame")))
        none = stack.enter_context(running(archiving(OLD, archive_since=None)))
        open_ = stack.enter_context(running(archiving(OLD)))
        summary = replayed(DataDirectory(tmp_path / "a"), [closed, none], notes=notes)
        assert summary.state is WindowState.TRUNCATED
        assert any("set JETSTREAM_API_TOKEN" in note for note in notes)
        summary = replayed(DataDirectory(tmp_path / "b"), [closed, none, open_])
        assert (summary.state, summary.host) == (WindowState.COMPLETE, Host.parse(open_.address).name)
        summary = replayed(DataDirectory(tmp_path / "c"), [closed], token="open-sesame")
        assert summary.state is WindowState.COMPLETE
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"open-sesame" not in path.read_bytes()


@pytest.mark.parametrize(
    "first",
    [
        Nowhere(),
        archiving(OLD, faults=Faults(lists=(Refuse(400),))),
        archiving(OLD, faults=Faults(downloads=(None, None, *(Refuse(503, retry_after=0),) * 50)), segment_minutes=10),
        archiving(OLD, archive_since=OLD.end + HOUR),
        archiving(OLD, archive_since=OLD.start + HOUR / 2),
    ],
    ids=["down", "refuses", "fails on the way", "begins later", "begins within"],
)
def test_an_archive_that_fails_or_begins_too_late_is_passed_over(
    data: DataDirectory, host: Simulator, first: Simulator | Nowhere, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jetstream_pipeline.archive.tries._FIRST_PAUSE_SEC", 0.01)
    if isinstance(first, Simulator):
        stack.enter_context(running(first))
    summary = replayed(data, [first, host])
    assert summary.state is WindowState.COMPLETE
    assert summary.proof.archived[-1].host == Host.parse(host.address).name
    assert stored(data.root, OLD) == enumerated()


def test_an_archive_that_fails_is_an_error_where_no_stream_has_the_window(data: DataDirectory) -> None:
    refused = Faults(lists=(Refuse(400),) * 10)
    with running(archiving(OLD, faults=refused)) as simulator, pytest.raises(PipelineError, match="answered 400"):
        replayed(data, [simulator])
    with running(archiving(OLD, faults=refused, lookback=10 * HOUR)) as simulator:
        assert replayed(data, [simulator]).state is WindowState.COMPLETE


def test_the_command_and_the_connector_send_the_token(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(archiving(OLD, api_token="open-sesame")) as simulator:
        assert run(data.root, simulator, OLD).returncode == 1
        monkeypatch.setenv("JETSTREAM_API_TOKEN", "open-sesame")
        assert run(data.root, simulator, OLD).returncode == 0
        connector = JetstreamConnector("queue", data_dir=data.root)
        listening = connector.listen_until_count(simulator.address, (), 0, 60, OLD.start, end_timestamp=OLD.end)
        assert asyncio.run(listening).gaps == ()
    assert stored(data.root, OLD) == enumerated()


def test_a_disk_that_takes_nothing_is_no_fault_of_the_host(data: DataDirectory) -> None:
    data.archive.write_text("a file where the folder should be")
    with running(archiving(OLD)) as simulator, pytest.raises(StorageError, match="Not a directory; check that"):
        replayed(data, [simulator, simulator])


@pytest.mark.parametrize("minutes", [0, 5], ids=["nothing", "its beginning"])
def test_a_filter_that_lets_little_through_is_gone_on_with_where_the_archive_ends(
    data: DataDirectory, minutes: int
) -> None:
    """However long ago the last event was, the stream need not have it."""
    last = {row[2]: row[1] for row in enumerated()}
    early = [did for did, time_us in last.items() if time_us < OLD.start_us + minutes * 60_000_000]
    did = early[0] if early else "did:plc:nobody"
    with running(archiving(OLD, ago=HOUR / 4, segment_minutes=50, lookback=HOUR)) as simulator:
        summary = replayed(data, [simulator], subscription=Subscription(dids=(did,)))
    assert (summary.state, summary.proof.clamps) == (WindowState.COMPLETE, ())
    assert summary.proof.archived
    assert stored(data.root, OLD) == [row for row in enumerated() if row[2] == did]


@pytest.mark.parametrize(
    "faults",
    [
        Faults(downloads=(CutAfterBytes(20_000), None, CutAfterBytes(40_000))),
        Faults(downloads=(Corrupt(30_000), None, Corrupt(400))),
        Faults(lists=(Refuse(503, "", retry_after=0),), plans=(Refuse(429, "", retry_after=0),)),
    ],
    ids=["cuts", "damage", "refusals"],
)
def test_what_a_host_does_to_downloads_changes_nothing(data: DataDirectory, faults: Faults) -> None:
    with running(archiving(OLD, faults=faults)) as simulator:
        assert replayed(data, [simulator]).state is WindowState.COMPLETE
    assert stored(data.root, OLD) == enumerated()


def test_a_plan_that_turns_stale_is_made_again(data: DataDirectory) -> None:
    with running(archiving(OLD, faults=Faults(downloads=(None, Compact(share=0.2))))) as simulator:
        summary = replayed(data, [simulator])
        left = {event.seq for event in simulator.archived_events(OLD.start_us - 60_000_000, OLD.end_us + 60_000_000)}
    assert summary.state is WindowState.COMPLETE
    seqs = [row[0] for row in stored(data.root, OLD)]
    there = [row[0] for row in enumerated()]
    # What came before the compaction is there with what it removed.
    assert set(there) & left <= set(seqs) < set(there)
    assert seqs == sorted(set(seqs))


def test_what_is_damaged_on_the_host_is_an_error_that_may_pass(data: DataDirectory) -> None:
    with running(archiving(OLD, faults=Faults(downloads=(Corrupt(30_000),) * 50))) as simulator:
        with pytest.raises(ArchiveError) as failure:
            replayed(data, [simulator])
        assert failure.value.passing
        assert not data.lake.events_path("network", OLD).exists()
    with running(archiving(OLD)) as simulator:
        assert replayed(data, [simulator]).state is WindowState.COMPLETE
    assert stored(data.root, OLD) == enumerated()


def test_a_run_that_is_killed_is_gone_on_with_and_downloads_nothing_twice(data: DataDirectory) -> None:
    with running(archiving(OLD, segment_minutes=5)) as simulator:
        for pattern, number in (("archive/*.jss", 3), ("staging/network/*/*.events", 2), ("archive/*.jss", 5)):
            before = len(list(data.root.glob(pattern)))
            process = started(data.root, simulator, OLD)
            while process.poll() is None and len(list(data.root.glob(pattern))) < before + number:
                pass
            process.kill()
            ended(process)
        durable = {path: path.stat().st_ino for path in data.archive.glob("*.jss")}
        assert len(durable) >= 3
        assert run(data.root, simulator, OLD).returncode == 0
    assert stored(data.root, OLD) == enumerated()
    assert {path: path.stat().st_ino for path in durable} == durable


def test_the_connector_begins_with_the_archive(data: DataDirectory, host: Simulator) -> None:
    connector = JetstreamConnector("queue", data_dir=data.root)
    statistics = asyncio.run(connector.listen_until_count(host.address, (), 0, 60, OLD.start, end_timestamp=OLD.end))
    expected = [event for event in NETWORK.events(OLD.start_us, OLD.end_us) if event.time_us < OLD.end_us]
    assert statistics.end_cursor_reached
    assert not statistics.gaps
    assert abs(statistics.records_stored - len(expected)) <= 3


@pytest.mark.parametrize("by", ["time", "number"])
def test_a_connector_without_an_end_begins_with_the_archive_where_the_stream_no_longer_reaches(
    data: DataDirectory, by: str
) -> None:
    wanted = [event for event, _ in zip(NETWORK.events(RECENT.start_us, RECENT.end_us), range(3_000), strict=False)]
    cursor = RECENT.start if by == "time" else wanted[0].seq
    with running(archiving(RECENT)) as simulator:
        connector = JetstreamConnector("queue", data_dir=data.root)
        asyncio.run(connector.listen_until_count(simulator.address, (), 2_000, 60, cursor))
        statistics = asyncio.run(connector.listen_until_count(simulator.address, (), 1_000, 60, resume=True))
    assert statistics.target_reached
    assert statistics.latest_cursor == wanted[-1].time_us


def test_one_without_an_archive_goes_on_with_what_the_stream_has(data: DataDirectory) -> None:
    young, notes = archiving(RECENT, archive_since=RECENT.end + 3 * HOUR), list[str]()
    for number, simulator in enumerate((archiving(RECENT, archive_since=None), young)):
        with running(simulator):
            connector = JetstreamConnector(f"queue{number}", data_dir=data.root)
            statistics = asyncio.run(
                connector.listen_until_count(
                    simulator.address,
                    (),
                    100,
                    60,
                    RECENT.start,
                    on_progress=lambda progress: notes.append(progress.note or ""),
                )
            )
        assert statistics.target_reached
        assert any("sends nothing from" in note for note in notes)
        notes.clear()


def test_half_a_day_of_the_archive_is_the_networks(data: DataDirectory) -> None:
    network = Network(seed=9, rate=1)
    start = datetime(2026, 7, 1, tzinfo=UTC)
    span = Window(start, start + timedelta(hours=12))
    simulator = Simulator(
        network,
        clock=lambda: (span.end + 2 * HOUR).timestamp(),
        lookback=HOUR / 2,
        archive_since=start - HOUR,
        segment_minutes=180,
    )
    with running(simulator):
        client = StreamClient(
            [Host.parse(simulator.address)],
            Subscription(),
            Options(archive=Access(data.archive)),
            span=Span(span.start_us, span.end_us),
        )
        seqs = asyncio.run(_seqs_until(client, span))
    assert seqs == [event.seq for event in network.events(span.start_us, span.end_us)]


def test_who_goes_on_is_not_given_what_came_long_before(data: DataDirectory) -> None:
    """Blocks hold what lies further back than anybody remembers."""
    subscription = Subscription(("fm.teal.alpha.feed.play",), kinds=("commit",))
    with running(archiving(OLD, block_events=100, segment_minutes=60)) as simulator:

        def read(resumption: Resumption | None = None) -> pa.Table:
            options = Options(archive=Access(data.archive))
            client = StreamClient(
                [Host.parse(simulator.address)], subscription, options, span=Span(OLD.start_us, OLD.end_us)
            )
            return asyncio.run(_read_until(client, OLD, resumption))

        everything = read()
        last = everything.slice(everything.num_rows // 2, 3)
        resumption = Resumption(OLD.start_us)
        resumption.restore(last.to_batches(), [])
        rest = read(resumption)
    assert not list(data.archive.glob("*.jss"))
    assert everything.num_rows > 20
    assert rest["seq"].to_pylist() == [seq for seq in everything["seq"].to_pylist() if seq > last["seq"][-1].as_py()]


async def _read_until(client: StreamClient, span: Window, resumption: Resumption | None) -> pa.Table:
    found: list[pa.RecordBatch] = []
    async with aclosing(client.batches(span.start_us, resumption)) as batches:
        async for batch in batches:
            found.append(batch.filtered(client.subscription.mask(batch.events)).events)
            if batch.events.num_rows and batch.events["time_us"][-1].as_py() > span.end_us:
                break
    return pa.Table.from_batches(found)


async def _seqs_until(client: StreamClient, span: Window) -> list[int]:
    found: list[tuple[int, int]] = []
    async with aclosing(client.batches(span.start_us)) as batches:
        async for batch in batches:
            found += zip(batch.events["seq"].to_pylist(), batch.events["time_us"].to_pylist(), strict=True)
            if found and found[-1][1] >= span.end_us + 1_000_000:
                break
    end = next(number for number, (_, time_us) in enumerate(found) if time_us >= span.end_us)
    return [seq for seq, _ in found[:end]]
