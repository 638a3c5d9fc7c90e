"""What is configured of a stream reaches the use cases."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.handles.errors import UnresolvedHandles
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.streams import stream as module
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.handles.names import naming
from jetstream_pipeline_tests.handles.web import serving
from jetstream_pipeline_tests.handles.world import ALICE, BOB, World
from jetstream_pipeline_tests.windows import HOUR, commit, store

HOSTS = (Host.parse("one.example"), Host.parse("two.example"))
PAST = Window.hour(datetime.now(UTC) - timedelta(hours=3))
NETWORK = Network(rate=4)
_SETTINGS = set(Settings.model_fields) - {"hosts", "collections"}


class Recorder:
    """Stands where a use case is called, and refuses."""

    def __init__(self) -> None:
        self.given: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.given, self.named = given, named
        raise InvalidInput("this is a test")


def stream_of(data: DataDirectory, **said: Any) -> Stream:
    settings = {name: said.pop(name) for name in list(said) if name in _SETTINGS}
    return Stream(**{"name": "network", "settings": Settings(data_dir=data.root, **settings), "hosts": HOSTS, **said})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving() as services, naming() as names:
        world = World(services, services, names, tmp_path / "unused")
        world.appview_knows_none("nobody.test")
        for handle, did in (("alice.test", ALICE), ("bob.test", BOB)):
            world.appview(handle, did)
            world.document(did, f"at://{handle}")
        yield world


def asked_of(world: World) -> dict[str, Any]:
    """The settings by which handles are looked up in a small world."""
    endpoints = world.endpoints
    return {"appview": endpoints.appview, "plc_directory": endpoints.plc, "dns_server": endpoints.dns}


def test_the_filter_is_of_the_dids_and_those_of_the_file_and_of_the_handles(data: DataDirectory, world: World) -> None:
    file = data.root / "dids.txt"
    file.write_text(f"did:plc:c\ndid:plc:e\n{BOB}\n")
    stream = stream_of(
        data,
        collections=("app.bsky.graph.*",),
        dids=("did:plc:d", "did:plc:c"),
        dids_file=file,
        handles=("alice.test", "@Bob.test"),
        **asked_of(world),
    )
    assert stream.subscription() == Subscription(
        ("app.bsky.graph.*",), ("did:plc:d", "did:plc:c", "did:plc:e", BOB, ALICE)
    )
    assert data.handles.exists()


def test_a_filter_of_nothing_lets_everything_through_and_asks_nobody(data: DataDirectory) -> None:
    assert stream_of(data, appview="http://127.0.0.1:1").subscription() == Subscription()


def test_a_handle_or_a_file_that_names_nobody_does_not_let_everybody_through(data: DataDirectory, world: World) -> None:
    with pytest.raises(UnresolvedHandles, match=r"nobody\.test"):
        stream_of(data, handles=("nobody.test",), **asked_of(world)).replay(PAST)
    with pytest.raises(InvalidInput, match="cannot read DIDs"):
        stream_of(data, dids_file=data.root / "nowhere").replay(PAST)


@pytest.mark.parametrize("wire", [None, Wire.V1, Wire.V2])
def test_a_replay_is_as_the_stream_says(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, wire: Wire | None
) -> None:
    asked = Recorder()
    monkeypatch.setattr(module, "replay_window", asked)
    stream = stream_of(
        data, name="mine", collections=("app.bsky.graph.*",), wire=wire, settle_minutes=7, host_skew_seconds=11
    )
    told: list[Any] = []
    with pytest.raises(InvalidInput, match="this is a test"):
        stream.replay(PAST, told.append)
    assert asked.given == ("mine", Subscription(("app.bsky.graph.*",)), PAST)
    assert asked.named == {
        "hosts": HOSTS,
        "data": data,
        "settle": timedelta(minutes=7),
        "skew": timedelta(seconds=11),
        "options": Options(wire, archive=stream.access),
        "on_progress": told.append,
    }


@pytest.mark.parametrize("wire", [None, Wire.V1, Wire.V2])
def test_a_verification_is_as_the_stream_says(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, wire: Wire | None
) -> None:
    asked = Recorder()
    monkeypatch.setattr(module, "verify_window", asked)
    told: list[Any] = []
    stream = stream_of(data, name="mine", wire=wire, settle_minutes=7, host_skew_seconds=11)
    with pytest.raises(InvalidInput, match="this is a test"):
        stream.verify(PAST, told.append)
    assert asked.given == ("mine", PAST)
    assert asked.named == {
        "hosts": HOSTS,
        "data": data,
        "settle": timedelta(minutes=7),
        "skew": timedelta(seconds=11),
        "options": Options(wire, archive=stream.access),
        "on_progress": told.append,
    }


def test_a_compressed_stream_is_asked_for_with_the_dictionary_that_its_host_has(data: DataDirectory) -> None:
    with running(Simulator(NETWORK)) as host:
        plain = stream_of(data, hosts=(Host.parse(host.address),), wire=Wire.V2)
        first = plain.replay(PAST)
        assert not list(data.cache)
        packed = replace(plain, name="packed", compression=True)
        assert packed.replay(PAST).content == first.content
        assert list(data.cache.values()) == [host.dictionary_v2]


@pytest.mark.parametrize(("use_case", "do"), [("replay_window", Stream.replay), ("verify_window", Stream.verify)])
def test_the_dictionary_of_the_old_wire_may_lie_in_a_file(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, use_case: str, do: Callable[[Stream, Window], Any]
) -> None:
    asked, file = Recorder(), data.root / "own.zdict"
    file.write_bytes(Simulator(NETWORK).dictionary)
    monkeypatch.setattr(module, use_case, asked)
    with pytest.raises(InvalidInput, match="this is a test"):
        do(stream_of(data, compression=True, zstd_dictionary=file), PAST)
    found = asyncio.run(asked.named["options"].dictionaries.find(HOSTS[0], Wire.V1))
    assert found.content == file.read_bytes()


def test_a_file_that_is_no_dictionary_is_told(data: DataDirectory) -> None:
    with pytest.raises(InvalidInput, match="nowhere"):
        stream_of(data, compression=True, zstd_dictionary=data.root / "nowhere").replay(PAST)


def test_a_window_that_is_whole_since_then_is_taken_as_it_stands(data: DataDirectory) -> None:
    with running(Simulator(NETWORK)) as host:
        stream = stream_of(data, hosts=(Host.parse(host.address),))
        first = stream.replay(PAST)
        assert stream.replay(PAST, since=first.finished_at) == first
        again = stream.replay(PAST, since=first.finished_at + timedelta(microseconds=1))
        assert again.finished_at > first.finished_at
        assert stream.replay(PAST).finished_at > again.finished_at
        assert stream.standing(PAST) != first
        other = replace(stream, dids=("did:plc:a",))
        with pytest.raises(InvalidInput, match="has other events than asked for"):
            other.replay(PAST, since=first.finished_at)


def test_what_stands_of_a_window_is_told_where_it_can_be_read(data: DataDirectory) -> None:
    stream = stream_of(data)
    assert stream.standing(HOUR) is None
    summary = store(data, [commit("{}")])
    assert stream.standing(HOUR) == summary
    data.lake.events_path("network", HOUR).write_bytes(b"PAR1")
    assert stream.standing(HOUR) is None


def test_a_file_that_cannot_be_read_is_replayed_although_it_is_young(data: DataDirectory) -> None:
    with running(Simulator(NETWORK)) as host:
        stream = stream_of(data, hosts=(Host.parse(host.address),))
        first = stream.replay(PAST)
        data.lake.events_path("network", PAST).write_bytes(b"PAR1")
        assert stream.replay(PAST, since=first.finished_at).content == first.content


def test_windows_that_are_replayed_at_the_same_time_begin_with_different_hosts(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, begun = threading.Barrier(2), []

    def replay(*_: Any, hosts: tuple[Host, ...], **__: Any) -> None:
        begun.append(hosts)
        if len(begun) <= 2:
            both.wait(30)

    monkeypatch.setattr(module, "replay_window", replay)
    streams = (stream_of(data), stream_of(data, name="other"))
    threads = [threading.Thread(target=stream.replay, args=(PAST,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun, key=str) == [HOSTS, HOSTS[::-1]]
    streams[0].replay(PAST)
    assert begun[2] == HOSTS


NOON = datetime(2026, 7, 6, 12, 34, 56, tzinfo=UTC)
START, SETTING = datetime(2026, 7, 1, 5, tzinfo=UTC), datetime(2026, 7, 2, 6, tzinfo=UTC)


def test_a_stream_begins_where_it_says_or_the_setting_or_its_data_or_two_days_ago(data: DataDirectory) -> None:
    assert stream_of(data).first_hour(NOON) == datetime(2026, 7, 4, tzinfo=UTC)
    store(data, [commit("{}")], Window.hour(NOON - timedelta(hours=5)))
    assert stream_of(data).first_hour(NOON) == datetime(2026, 7, 4, tzinfo=UTC)
    store(data, [commit("{}")], Window.hour(HOUR.start - timedelta(days=3)), state=WindowState.TRUNCATED)
    store(data, [commit("{}")], Window.hour(HOUR.start - timedelta(days=9)), stream="other")
    store(data, [commit("{}")])
    assert stream_of(data).first_hour(NOON) == datetime(2026, 7, 1, tzinfo=UTC)
    assert stream_of(data, first_hour=SETTING).first_hour(NOON) == SETTING
    assert stream_of(data, first_hour=SETTING, start=START).first_hour(NOON) == START
    assert stream_of(data, start=START).first_hour(NOON) == START


def test_what_is_to_be_there_begins_where_the_stream_says_or_the_setting_or_with_what_hosts_may_have(
    data: DataDirectory,
) -> None:
    assert stream_of(data, look_back_hours=10).beginning(NOON) == datetime(2026, 7, 6, 3, tzinfo=UTC)
    assert stream_of(data, first_hour=SETTING).beginning(NOON) == SETTING
    assert stream_of(data, first_hour=SETTING, start=START).beginning(NOON) == START
    assert stream_of(data, start=START).beginning(NOON) == START


def test_without_a_clock_of_somebody_else_a_new_stream_begins_two_days_before_now(data: DataDirectory) -> None:
    before = datetime.now(UTC)
    first = stream_of(data).first_hour()
    after = datetime.now(UTC)
    assert before - timedelta(days=3) < first <= after - timedelta(days=2)
    assert first.hour == first.minute == first.second == first.microsecond == 0


def test_archives_are_asked_with_the_token_of_the_settings(data: DataDirectory) -> None:
    access = stream_of(data, name="mine", api_token="open-sesame").access
    assert (access.token_text, access.folder) == ("open-sesame", data.archive)
    assert "open-sesame" not in repr(access)
