"""A replayed window holds the network's events of that hour: all of them, once, in order, whatever cut the stream."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jetstream_pipeline.errors import InvalidInput, PipelineError
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.reading import Progress
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.simulator import Faults, Network, Simulator, running
from jetstream_pipeline.storage.errors import StorageError, WindowBusy
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.windows import rows_of

NETWORK = Network(rate=8)
WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
EVERYTHING = Subscription()


def expected_rows() -> list[tuple]:
    events = NETWORK.events(WINDOW.start_us, WINDOW.end_us)
    return [(e.seq, e.time_us, e.did, e.rkey, e.record_json, e.payload_json) for e in events]


def stored_rows(data: DataDirectory) -> list[tuple]:
    names = ["seq", "time_us", "did", "rkey", "record", "payload"]
    table = rows_of(data.lake.events_path("network", WINDOW), names)
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_a_window_equals_the_networks_enumeration_and_again_when_replayed_again(data: DataDirectory) -> None:
    seen: list[Progress] = []
    with running(Simulator(NETWORK)) as simulator:
        hosts = [Host.parse(simulator.address)]
        for _ in range(2):
            summary = replay_window("network", EVERYTHING, WINDOW, hosts=hosts, data=data, on_progress=seen.append)
            assert summary.state is WindowState.COMPLETE
            assert stored_rows(data) == expected_rows()
    assert summary.events == sum(summary.counts_by_kind.values()) == len(expected_rows())
    assert read_summary(data.lake.events_path("network", WINDOW)) == summary
    assert seen[-1].share(WINDOW) == 1.0


def test_cuts_lose_nothing_and_repeat_nothing(data: DataDirectory) -> None:
    seqs = [row[0] for row in expected_rows()]
    faults = Faults(cut_after_events=(200, 3_000, 5), cut_at_seqs=frozenset(seqs[5_000:20_000:3_000]) | {seqs[-1]})
    with running(Simulator(NETWORK, faults=faults)) as simulator:
        summary = replay_window("network", EVERYTHING, WINDOW, hosts=[Host.parse(simulator.address)], data=data)
    assert summary.state is WindowState.COMPLETE
    assert stored_rows(data) == expected_rows()
    assert len(summary.proof.connections) >= 8
    assert summary.proof.repeats > 0


def test_a_host_that_no_longer_has_the_start_gives_a_truncated_window_kept_apart(data: DataDirectory) -> None:
    lookback = datetime.now(UTC) - WINDOW.start - timedelta(minutes=20)
    with running(Simulator(NETWORK, lookback=lookback)) as simulator:
        summary = replay_window("network", EVERYTHING, WINDOW, hosts=[Host.parse(simulator.address)], data=data)
    assert summary.state is WindowState.TRUNCATED
    assert not data.lake.events_path("network", WINDOW).exists()
    assert data.lake.incomplete_path("network", WINDOW).exists()


def test_a_dead_host_is_passed_over_and_no_host_at_all_is_told(data: DataDirectory) -> None:
    dead = Host.parse("ws://127.0.0.1:1")
    with running(Simulator(NETWORK)) as simulator:
        hosts = [dead, Host.parse(simulator.address)]
        assert replay_window("network", EVERYTHING, WINDOW, hosts=hosts, data=data).state is WindowState.COMPLETE
    with pytest.raises(PipelineError, match=r"cannot reach 127\.0\.0\.1:1"):
        replay_window("network", EVERYTHING, WINDOW, hosts=[dead], data=data)


def test_one_window_has_one_writer_at_a_time(data: DataDirectory) -> None:
    with staged(data, "network", WINDOW), pytest.raises(WindowBusy), staged(data, "network", WINDOW):
        pass


def test_a_data_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create"):
        replay_window("network", EVERYTHING, WINDOW, hosts=[], data=DataDirectory(tmp_path / "file"))


def test_a_window_that_has_not_ended_is_refused(data: DataDirectory) -> None:
    following = Window.hour(datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(InvalidInput, match="not ended"):
        replay_window("network", EVERYTHING, following, hosts=[], data=data)
