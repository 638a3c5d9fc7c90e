"""Whatever a host does, a replay ends, keeps each event once, and does not call whole what is not."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from websockets.sync.server import ServerConnection

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream import turns
from jetstream_pipeline.jetstream.connection import MAX_MESSAGE_BYTES
from jetstream_pipeline.jetstream.errors import JetstreamError, Refused
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.reading import Progress
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.hostile import abort, identity, sending, serving
from jetstream_pipeline_tests.windows import rows_of

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
SECOND = 1_000_000
TIMES = range(WINDOW.start_us - 50 * SECOND, WINDOW.end_us + 100 * SECOND, 10 * SECOND)
INSIDE = [time for time in TIMES if WINDOW.start_us <= time < WINDOW.end_us]
EVENTS = [identity(time, time) for time in TIMES]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    monkeypatch.setattr(turns, "_FIRST_PAUSE_SEC", 0.01)
    return DataDirectory(tmp_path)


def replay(data: DataDirectory, *hosts: Host, **options: object) -> WindowSummary:
    return replay_window("network", Subscription(), WINDOW, hosts=hosts, data=data, **options)  # type: ignore[arg-type]


def stored(data: DataDirectory) -> list[int]:
    return rows_of(data.lake.events_path("network", WINDOW), ["time_us"])["time_us"].to_pylist()


def quarantine(data: DataDirectory) -> list[tuple[bytes, int]]:
    path = data.quarantine_path("network", WINDOW)
    rows = pq.ParquetFile(path).read().to_pylist() if path.exists() else []
    return [(row["message"], row["position_us"]) for row in rows]


def nothing(connection: ServerConnection, _: int, __: int) -> None:
    connection.close(1011, "not today")


def power_cut(connection: ServerConnection, _: int, __: int) -> None:
    abort(connection)


@pytest.mark.parametrize("script", [nothing, power_cut])
def test_a_host_that_ends_every_connection_is_given_up_and_another_one_asked(script, data: DataDirectory) -> None:
    notes: list[str | None] = []

    def note(progress: Progress) -> None:
        notes.append(progress.note)

    with serving(script) as bad, serving(sending(EVENTS)) as good:
        with pytest.raises(JetstreamError, match="brought nothing new") as given_up:
            replay(data, bad, on_progress=note)
        assert len([text for text in notes if text and bad.name in text]) > 3
        assert given_up.value.passing
        assert replay(data, bad, good).state is WindowState.COMPLETE
    assert stored(data) == INSIDE


def test_a_host_that_refuses_is_passed_over_and_all_that_refuse_are_told(data: DataDirectory) -> None:
    with serving(nothing, HTTPStatus.FORBIDDEN) as bad, serving(sending(EVENTS)) as good:
        assert replay(data, bad, good).state is WindowState.COMPLETE
        with pytest.raises(Refused, match="answered 403: not for you"):
            replay(data, bad, bad)


def test_a_host_that_is_warming_up_is_asked_again_for_a_while(data: DataDirectory) -> None:
    with (
        serving(nothing, HTTPStatus.SERVICE_UNAVAILABLE) as warming,
        pytest.raises(JetstreamError, match="answered 503"),
    ):
        replay(data, warming)


def test_a_host_with_a_short_memory_is_passed_over(data: DataDirectory) -> None:
    late = [identity(time, time) for time in TIMES if time > WINDOW.start_us + 900 * SECOND]
    with serving(sending(late)) as short, serving(sending(EVENTS)) as good:
        summary = replay(data, short, good)
        assert (summary.state, summary.host) == (WindowState.COMPLETE, good.name)
    assert stored(data) == INSIDE


def test_text_that_is_no_unicode_ends_in_quarantine(data: DataDirectory) -> None:
    broken = b'{"did":"\xff\xfe"}'

    def script(connection: ServerConnection, _: int, __: int) -> None:
        for number, event in enumerate(EVENTS):
            connection.send(event)
            if number == 10:
                connection.send(broken, text=True)

    with serving(script) as host:
        summary = replay(data, host)
    assert (summary.state, summary.quarantined) == (WindowState.COMPLETE, 1)
    assert quarantine(data) == [(broken, TIMES[10])]
    assert stored(data) == INSIDE


def test_a_resumed_stream_that_begins_early_repeats_nothing(data: DataDirectory) -> None:
    def script(connection: ServerConnection, number: int, cursor: int) -> None:
        early = [time for time in TIMES if time >= cursor - (600 * SECOND if number else 0)]
        for time in early:
            if number == 0 and time > WINDOW.start_us + 1800 * SECOND:
                abort(connection)
                return
            connection.send(identity(time, time))

    with serving(script) as host:
        summary = replay(data, host)
    assert summary.state is WindowState.COMPLETE
    assert stored(data) == INSIDE


def test_events_sent_twice_on_one_connection_are_kept_once(data: DataDirectory) -> None:
    doubled = [event for event in EVENTS for _ in range(2)]
    with serving(sending(doubled)) as host:
        summary = replay(data, host)
    assert stored(data) == INSIDE
    assert summary.proof.repeats >= len(INSIDE)


def test_one_old_imported_time_does_not_show_that_the_start_was_seen(data: DataDirectory) -> None:
    imported = identity(WINDOW.start_us - 86_400 * SECOND, 1)
    late = [identity(time, time) for time in TIMES if time > WINDOW.start_us + 900 * SECOND]
    with serving(sending([imported, *late])) as host:
        assert replay(data, host).state is WindowState.TRUNCATED


def test_an_old_imported_time_within_the_window_belongs_to_it(data: DataDirectory) -> None:
    imported = WINDOW.start_us - 86_400 * SECOND
    with serving(sending([*EVENTS[:20], identity(imported, 1), *EVENTS[20:]])) as host:
        replay(data, host)
    assert sorted(stored(data)) == [imported, *INSIDE]


def test_a_time_in_the_future_does_not_end_the_window(data: DataDirectory) -> None:
    future = identity(WINDOW.end_us + 10**14, 1)
    with serving(sending([*EVENTS[:20], future, *EVENTS[20:]])) as host:
        summary = replay(data, host)
    assert summary.state is WindowState.COMPLETE
    assert stored(data) == INSIDE
    assert quarantine(data) == [(future.encode(), TIMES[19])]


def test_a_commits_operations_of_a_wrong_time_do_not_lead_a_resumed_stream_away(data: DataDirectory) -> None:
    wrong = TIMES[60] + 1_800 * SECOND
    body = '{"did":"did:plc:a","time_us":%d,"kind":"commit","commit":{"rev":"r","operation":"delete",%s"rkey":"%d"}}'
    operations = [body % (wrong, '"collection":"app.bsky.feed.like",', number) for number in range(3)]

    def script(connection: ServerConnection, number: int, cursor: int) -> None:
        for place, time in enumerate(TIMES):
            if time >= cursor:
                connection.send(EVENTS[place])
            for operation in operations if place == 60 and time >= cursor else ():
                connection.send(operation)
            if place == 70 and number == 0:
                abort(connection)
                return

    with serving(script) as host:
        summary = replay(data, host)
    assert summary.state is WindowState.COMPLETE
    assert sorted(stored(data)) == sorted([*INSIDE, *[wrong] * 3])


@pytest.mark.parametrize("late", [86_400, 59, 45, 31, 29, 5])
def test_an_imported_time_from_just_before_the_start_does_not_show_it(data: DataDirectory, late: int) -> None:
    after = [identity(time, time) for time in TIMES if time > WINDOW.start_us + 900 * SECOND]
    with serving(sending([identity(WINDOW.start_us - late * SECOND, 1), *after])) as host:
        assert replay(data, host).state is WindowState.TRUNCATED


@pytest.mark.parametrize("number", [1, 3, 4, 12])
def test_times_that_run_ahead_and_fall_back_do_not_pass_for_the_end(data: DataDirectory, number: int) -> None:
    ahead = [identity(WINDOW.end_us + one * SECOND + 10**9, one, f"did:plc:{one}") for one in range(number)]
    with serving(sending([*EVENTS[:100], *ahead, *EVENTS[100:]])) as host:
        summary = replay(data, host)
    if number > 3:
        assert summary.state is WindowState.UNPROVEN
        assert "fell back to before the window's end" in summary.reason
    else:
        assert summary.state is WindowState.COMPLETE
        assert set(INSIDE) < set(stored(data))


def test_a_message_that_is_too_large_to_be_taken_leaves_the_window_unproven(data: DataDirectory) -> None:
    large = identity(TIMES[60], 1, "x" * MAX_MESSAGE_BYTES)

    def script(connection: ServerConnection, _: int, __: int) -> None:
        assert connection.request
        for place, event in enumerate(EVENTS):
            if place == 60 and "maxMessageSizeBytes" not in connection.request.path:
                connection.send(large)
            connection.send(event)

    with serving(script) as host:
        summary = replay(data, host)
    assert summary.state is WindowState.UNPROVEN
    assert summary.reason == f"{host.name} had a message of more than {MAX_MESSAGE_BYTES} bytes, which was left out"
    assert summary.events == len(INSIDE)


def test_a_message_that_is_no_event_lies_in_the_window_of_the_event_before_it(data: DataDirectory) -> None:
    first, last = TIMES.index(WINDOW.start_us), TIMES.index(WINDOW.end_us)
    messages = EVENTS.copy()
    for name, place in (("after", last + 1), ("end", last), ("start", first + 1), ("before", first)):
        messages.insert(place, name)
    with serving(sending(messages)) as host:
        summary = replay(data, host)
    assert quarantine(data) == [(b"start", INSIDE[0]), (b"end", INSIDE[-1])]
    assert summary.quarantined == 2


def test_a_whole_window_and_its_quarantine_outlive_a_worse_run(data: DataDirectory) -> None:
    with serving(sending([*EVENTS[:20], "garbage", *EVENTS[20:]])) as host:
        replay(data, host)
    late = [identity(time, time) for time in TIMES if time > WINDOW.start_us + 900 * SECOND]
    with serving(sending([*late[:5], "other garbage", *late[5:]])) as host:
        assert replay(data, host).state is WindowState.TRUNCATED
    assert stored(data) == INSIDE
    assert [message for message, _ in quarantine(data)] == [b"garbage"]
    assert not data.lake.incomplete_path("network", WINDOW).exists()


def test_another_filters_events_do_not_take_a_windows_place(data: DataDirectory) -> None:
    with serving(sending(EVENTS)) as host:
        replay(data, host)
        with pytest.raises(InvalidInput, match=r"collections all so far, app\.bsky\.feed\.post now"):
            replay_window("network", Subscription(("app.bsky.feed.post",)), WINDOW, hosts=[host], data=data)
    assert stored(data) == INSIDE
