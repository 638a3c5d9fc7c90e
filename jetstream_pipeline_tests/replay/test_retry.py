"""What a newer version of the program can read goes from quarantine to where it belongs, once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jetstream_pipeline.archive.access import Access
from jetstream_pipeline.archive.block import Block, decode_rows
from jetstream_pipeline.cli.quarantine import retry as command
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events import decode as decoding
from jetstream_pipeline.events.wires import Fields, Wire, read_v1
from jetstream_pipeline.jetstream.server import Options
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay import retry as retrying
from jetstream_pipeline.replay import seams
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.replay.retry import retry
from jetstream_pipeline.storage import quarantine, window_file
from jetstream_pipeline.storage.errors import WindowBusy
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, keep, quarantined, read
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import WindowSummary, read_summary
from jetstream_pipeline.window import Window, to_us
from jetstream_pipeline_tests.archive.rows import archiving
from jetstream_pipeline_tests.archive.segments import CREATE, Row
from jetstream_pipeline_tests.cli.commands import told
from jetstream_pipeline_tests.hostile import identity, sending, serving
from jetstream_pipeline_tests.windows import rows_of

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
HOUR = timedelta(hours=1)
SECOND = 1_000_000
ARCHIVED = Window.hour(datetime(2026, 7, 4, 12, tzinfo=UTC))
_KIND_AT = 28
"""In the content of a block of one row: after the number of rows, and three numbers of eight bytes."""


def moments(window: Window) -> range:
    return range(window.start_us - 50 * SECOND, window.end_us + 100 * SECOND, 10 * SECOND)


TIMES = moments(WINDOW)


def of_today(time_us: int) -> str:
    return identity(time_us, time_us, f"did:plc:a{time_us // SECOND % 7}")


def of_tomorrow(time_us: int) -> str:
    """An event in a shape that only the next version of the program knows."""
    return identity(time_us, time_us, "did:plc:tomorrow").replace('"kind"', '"sort"')


def replay(data: DataDirectory, messages: list[str], window: Window = WINDOW) -> WindowSummary:
    with serving(sending(messages)) as host:
        return replay_window("network", Subscription(), window, hosts=[host], data=data)


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """A window with two messages of tomorrow, one of them twice, and one that stays garbage."""
    messages = list(map(of_today, TIMES))
    place = TIMES.index(WINDOW.start_us) + 100
    late, early = of_tomorrow(TIMES[place + 50] + 1), of_tomorrow(TIMES[place - 1] + 1)
    messages[place + 51 : place + 51] = [late, late.replace("{", "{ ", 1), "garbage"]
    messages[place:place] = [early]
    data = DataDirectory(tmp_path)
    assert replay(data, messages).quarantined == 4
    return data


@pytest.fixture
def tomorrow(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade(monkeypatch)


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_later(text: bytes) -> Fields:
        return read_v1(text.replace(b'"sort"', b'"kind"'))

    readers: dict[Wire, Callable[[bytes], object]] = {**decoding._READ, Wire.V1: read_later}
    monkeypatch.setattr(decoding, "_READ", readers)


def stored(data: DataDirectory, window: Window = WINDOW) -> list[tuple[str, int]]:
    rows = rows_of(data.lake.events_path("network", window), ["did", "time_us"]).to_pylist()
    return [(row["did"], row["time_us"]) for row in rows]


def test_what_still_cannot_be_read_stays(data: DataDirectory) -> None:
    before = stored(data)
    (retried,) = retry(data, "network")
    assert (retried.messages, retried.understood, retried.added, retried.note) == (4, 0, 0, None)
    assert stored(data) == before


@pytest.mark.usefixtures("tomorrow")
def test_what_can_be_read_now_goes_into_its_window_where_it_was_sent(data: DataDirectory) -> None:
    before = stored(data)
    (retried,) = retry(data, "network")
    assert (retried.window, retried.messages, retried.understood, retried.added) == (WINDOW, 4, 3, 2)
    after = stored(data)
    assert after == sorted(after, key=lambda row: row[1])
    assert set(after) - set(before) == {row for row in after if row[0] == "did:plc:tomorrow"}
    assert len(after) == len(before) + 2
    summary = read_summary(data.lake.events_path("network", WINDOW))
    assert (summary.events, summary.repaired, summary.quarantined) == (len(after), 2, 1)
    assert read(data.quarantine_path("network", WINDOW))["message"].to_pylist() == [b"garbage"]
    (again,) = retry(data, "network")
    assert (again.messages, again.understood) == (1, 0)
    assert stored(data) == after


def test_what_came_from_quarantine_stays_when_the_window_is_replayed(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        upgrade(patched)
        list(retry(data, "network"))
    before = stored(data)
    assert replay(data, list(map(of_today, TIMES))).repaired == 2
    assert stored(data) == before


@pytest.mark.usefixtures("tomorrow")
def test_a_retry_that_died_after_the_window_was_written_adds_nothing_twice(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(retrying.quarantine, "rewrite", die)
        with pytest.raises(RuntimeError):
            list(retry(data, "network"))
    after = stored(data)
    (retried,) = retry(data, "network")
    assert (retried.understood, retried.added) == (3, 0)
    assert stored(data) == after
    assert read_summary(data.lake.events_path("network", WINDOW)).quarantined == 1


@pytest.mark.usefixtures("tomorrow")
def test_messages_are_read_and_put_back_under_the_windows_lock(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def locked(act: Callable[..., object]) -> Callable[..., object]:
        def acting(*arguments: object) -> object:
            with pytest.raises(WindowBusy), staged(data, "network", WINDOW):
                pass
            done.append(act.__name__)
            return act(*arguments)

        return acting

    for act in (quarantine.read, quarantine.rewrite):
        monkeypatch.setattr(quarantine, act.__name__, locked(act))
    (retried,) = retry(data, "network")
    assert (retried.understood, retried.note, done) == (3, None, ["read", "rewrite"])


def test_a_window_that_another_run_is_at_is_left_as_it_is(data: DataDirectory) -> None:
    with staged(data, "network", WINDOW):
        (retried,) = retry(data, "network")
    assert (retried.window, retried.messages, retried.understood, retried.added) == (WINDOW, 4, 0, 0)
    assert retried.note
    assert "another run is at" in retried.note


def test_an_event_goes_after_the_one_that_it_followed_though_that_has_an_imported_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataDirectory(tmp_path)
    imported_us = WINDOW.start_us - 5 * 365 * 86_400 * SECOND
    messages = list(map(of_today, TIMES))
    messages[100:100] = [of_today(imported_us), of_tomorrow(TIMES[99] + 1)]
    replay(data, messages)
    upgrade(monkeypatch)
    assert [retried.added for retried in retry(data, "network")] == [1]
    events = stored(data)
    place = events.index(("did:plc:tomorrow", TIMES[99] + 1))
    assert [time for _, time in events[place - 2 : place + 2]] == [TIMES[99], imported_us, TIMES[99] + 1, TIMES[100]]


@pytest.mark.parametrize(
    ("neighbour", "here_us", "there_us"),
    [
        (Window.hour(WINDOW.start - HOUR), WINDOW.start_us + 1, WINDOW.start_us - 1),
        (Window.hour(WINDOW.end), WINDOW.end_us - 1, WINDOW.end_us + 1),
    ],
)
def test_an_event_that_a_window_beside_it_holds_is_left_to_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neighbour: Window, here_us: int, there_us: int
) -> None:
    data = DataDirectory(tmp_path)
    replay(data, among(WINDOW, here_us, of_tomorrow(here_us)))
    replay(data, among(neighbour, there_us, identity(there_us, here_us, "did:plc:tomorrow")), neighbour)
    assert ("did:plc:tomorrow", there_us) in stored(data, neighbour)
    before = stored(data)
    upgrade(monkeypatch)
    (retried,) = retry(data, "network")
    assert (retried.understood, retried.added, retried.note) == (1, 0, None)
    assert stored(data) == before


@pytest.mark.parametrize(("skew", "added"), [("200", 0), ("1", 1)])
def test_how_far_into_it_is_for_the_setting_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: str, added: int
) -> None:
    monkeypatch.setattr(window_file, "_ROW_GROUP_ROWS", 4)
    monkeypatch.setattr(seams, "_WELL_BEFORE", 1)
    data, before = DataDirectory(tmp_path), Window.hour(WINDOW.start - HOUR)
    here_us, there_us = WINDOW.start_us + 1, WINDOW.start_us - 300 * SECOND + 1
    replay(data, among(WINDOW, here_us, of_tomorrow(here_us)))
    replay(data, among(before, there_us, identity(there_us, here_us, "did:plc:tomorrow")), before)
    upgrade(monkeypatch)
    variables = {"JETSTREAM_DATA_DIR": str(tmp_path), "JETSTREAM_HOST_SKEW_SECONDS": skew}
    retried = CliRunner().invoke(command, ["network", "--json"], env=variables)
    assert f'"understood":1,"added":{added}' in retried.output


def among(window: Window, time_us: int, message: str) -> list[str]:
    messages = [(time, of_today(time)) for time in moments(window)]
    return [text for _, text in sorted([*messages, (time_us, message)])]


def row(number: int, **fields: Any) -> Row:
    name = b"3k%010d" % number
    moment = {"seq": number, "witnessed_us": ARCHIVED.start_us + (number - 100) * 10 * SECOND}
    return Row(**moment | {"did": b"did:plc:a%d" % (number % 7), "rkey": name, "rev": name} | fields)


@pytest.fixture
def of_archive(tmp_path: Path) -> DataDirectory:
    """A window from an archive, with a row of tomorrow's kind and one of tomorrow's time."""
    data = DataDirectory(tmp_path)
    strange = {200: row(200, kind=9), 300: row(300, witnessed_us=to_us(datetime.now(UTC)) + 86_400 * SECOND)}
    with archiving([strange.get(number) or row(number) for number in range(1, 600)]) as server:
        options = Options(archive=Access(data.archive))
        summary = replay_window("network", Subscription(), ARCHIVED, hosts=[server.host], data=data, options=options)
    assert (summary.state, summary.events, summary.quarantined) == ("complete", 358, 2)
    return data


def test_rows_of_an_archive_stay_as_long_as_they_are_no_events(of_archive: DataDirectory) -> None:
    (retried,) = retry(of_archive, "network")
    assert (retried.messages, retried.understood, retried.added, retried.note) == (2, 0, 0, None)


def test_rows_of_an_archive_go_into_their_window(of_archive: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_later(content: bytes, *arguments: Any, **more: Any) -> Block:
        return decode_rows(content[:_KIND_AT] + bytes([CREATE]) + content[_KIND_AT + 1 :], *arguments, **more)

    monkeypatch.setattr(retrying, "decode_rows", read_later)
    (retried,) = retry(of_archive, "network")
    assert (retried.window, retried.messages, retried.understood, retried.added) == (ARCHIVED, 2, 1, 1)
    seqs = rows_of(of_archive.lake.events_path("network", ARCHIVED), ["seq"])["seq"].to_pylist()
    assert seqs == [number for number in range(100, 460) if number != 300]
    assert [one.understood for one in retry(of_archive, "network")] == [0]


def test_a_damaged_row_of_an_archive_is_told(of_archive: DataDirectory) -> None:
    path = of_archive.quarantine_path("network", ARCHIVED)
    kept = read(path)
    cut = [message[:-1] for message in kept["message"].to_pylist()]
    place = kept.column_names.index("message")
    quarantine.rewrite(path, kept.set_column(place, kept.schema.field(place), [cut]))
    (retried,) = retry(of_archive, "network")
    assert (retried.messages, retried.understood) == (2, 0)
    assert retried.note
    assert len(read(path)) == 2


def test_a_queues_messages_go_into_the_queue_once(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    queue = Queue("posts", create_new_queue=True, data_dir=tmp_path)
    now = datetime.now(UTC)
    messages = [Unreadable(text, "not yet", 7) for text in (identity(WINDOW.start_us, 1).encode(), b"garbage")]
    for wire in (Wire.V1, None):
        keep(quarantined(messages, received_at=now, host="host", wire=wire), data.quarantine_folder("posts"), now)
    retried = list(retry(data, "posts"))
    assert sorted((one.window, one.messages, one.understood, one.added) for one in retried) == [
        (None, 2, 0, 0),
        (None, 2, 1, 1),
    ]
    assert queue.stats().pending == 1
    assert [one.understood for one in retry(data, "posts")] == [0, 0]


def test_a_damaged_file_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    Queue("posts", create_new_queue=True, data_dir=tmp_path)
    now = datetime.now(UTC)
    message = Unreadable(identity(WINDOW.start_us, 1).encode(), "not yet", 7)
    rows = quarantined([message], received_at=now, host="host", wire=Wire.V1)
    files = sorted(keep(rows, data.quarantine_folder("posts"), now) for _ in range(3))
    files[0].write_bytes(b"PAR1, once")
    pq.write_table(pq.ParquetFile(files[1]).read(["host"]), files[1])
    of_window = data.quarantine_path("posts", WINDOW)
    of_window.parent.mkdir(parents=True)
    of_window.write_bytes(b"")
    notes = {retried.note for retried in retry(data, "posts") if not retried.added}
    told = {str(path): note for note in notes if note for path in (*files, of_window) if str(path) in note}
    assert set(told) == {str(files[0]), str(files[1]), str(of_window)}
    assert all(("replay the window" in note) == (path == str(of_window)) for path, note in told.items())
    assert len(quarantine.read(files[2])) == 0


def test_a_name_without_quarantine_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no quarantine of nothing"):
        list(retry(DataDirectory(tmp_path), "nothing"))


def run(data: DataDirectory, *words: str) -> CompletedProcess[str]:
    return told(data.root, "quarantine", *words)


def test_the_commands_list_what_there_is_and_try_it_again(data: DataDirectory) -> None:
    listed = run(data, "list", "--format", "csv")
    assert listed.returncode == 0, listed.stderr
    header, *rows = listed.stdout.splitlines()
    assert header.startswith("name,reason,messages,bytes")
    assert sum(int(row.split(",")[-4]) for row in rows) == 4
    retried = run(data, "retry", "--json")
    assert retried.returncode == 0, retried.stderr
    assert '"messages":4,"understood":0' in retried.stdout
    refused = run(data, "retry", "nothing")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
