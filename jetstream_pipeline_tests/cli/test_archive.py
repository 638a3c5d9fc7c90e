"""What is told of an archive, of a segment, and of what is none."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jetstream_pipeline.archive.errors import DamagedSegment, UnsealedSegment
from jetstream_pipeline.cli.main import cli, main
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline_tests.archive.segments import (
    DELETE,
    IDENTITY,
    START_US,
    Row,
    cbor,
    content_of,
    frame_of,
    rows,
    sealed,
)
from jetstream_pipeline_tests.reference import reference

ROWS = [
    Row(seq=1, indexed_us=START_US - 5),
    Row(seq=2, kind=DELETE, payload=b""),
    Row(seq=3, kind=IDENTITY, payload=cbor({"did": "did:plc:a", "seq": 9, "time": "t"})),
]


def inspect(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["archive", "inspect", str(path), *options])


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / "seg_0000000000.jss"
    path.write_bytes(sealed([ROWS, [Row(seq=4)]]))
    return path


def test_each_event_is_an_object_in_a_line(segment: Path) -> None:
    result = inspect(segment, "--format", "ndjson")
    assert result.exit_code == 0, result.output
    created, deleted, identity, _ = map(json.loads, result.stdout.splitlines())
    commit = {"did": "did:plc:a", "kind": "commit", "collection": "app.bsky.feed.post", "rkey": "3k", "rev": "3r"}
    times = {"time_us": START_US, "witnessed_us": START_US}
    assert created.pop("cid").startswith("bafyrei")
    assert created == {
        **commit, **times, "seq": 1, "operation": "create", "record": {"text": "hi"}, "time_us": START_US - 5,
    }  # fmt: skip
    assert deleted == {**commit, **times, "seq": 2, "operation": "delete"}
    payload = {"did": "did:plc:a", "seq": 9, "time": "t"}
    assert identity == {**times, "seq": 3, "did": "did:plc:a", "kind": "identity", "payload": payload}


def test_people_get_the_header_and_the_blocks(segment: Path) -> None:
    result = inspect(segment)
    assert result.exit_code == 0, result.output
    assert f"│ checksum  │ {segment.read_bytes()[4:12][::-1].hex()} " in result.stdout
    assert "│ seq       │ 1 to 4 " in result.stdout
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    time = "2026-07-04 14:38:00.000000"
    assert ["0", "3", "0", "1", "3", time, time] in cells
    assert ["1", "1", "0", "4", "4", time, time] in cells


def test_a_block_needs_no_segment(tmp_path: Path) -> None:
    path = tmp_path / "block"
    path.write_bytes(frame_of(content_of(rows(7))))
    assert len(inspect(path, "-f", "ndjson").stdout.splitlines()) == 7
    assert "│     0 │      7 │" in inspect(path).stdout
    path.write_bytes(frame_of(content_of([])))
    assert inspect(path).exit_code == 0


def test_rows_that_are_no_events_are_counted_by_their_reason(tmp_path: Path) -> None:
    path = tmp_path / "block"
    path.write_bytes(frame_of(content_of([*rows(2), Row(kind=9), Row(kind=0), Row(payload=b"")])))
    for form, lines in (("ndjson", 2), ("table", 5)):
        result = inspect(path, "-f", form)
        assert result.exit_code == 1
        assert len(result.stdout.splitlines()) == lines
        assert result.stderr.splitlines() == [
            "2 rows that are no events: of a kind that is not known",
            "1 rows that are no events: no payload",
        ]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (sealed([ROWS])[:-1], DamagedSegment),
        (frame_of(content_of(ROWS))[:-1], DamagedSegment),
        (bytes(256), UnsealedSegment),
        (b"", DamagedSegment),
        (b"text", DamagedSegment),
    ],
)
def test_damage_is_a_line_and_exit_code_2(
    data: bytes,
    error: type[Exception],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert isinstance(inspect(path).exception, error)
    monkeypatch.setattr("sys.argv", ["jetstream-pipeline", "archive", "inspect", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out, len(told.err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("name", ["seg_0000000000.jss", "real-repo.jss", "seg_0000000000.block0.zst"])
def test_what_a_real_server_sealed_is_told(name: str) -> None:
    path = reference(f"segment/{name}")
    assert inspect(path).exit_code == 0
    lines = inspect(path, "-f", "ndjson").stdout.splitlines()
    assert len(lines) == {"seg_0000000000.jss": 1347, "real-repo.jss": 23}.get(name, 249)


NETWORK = Network(seed=6, rate=4)
SINCE = datetime(2026, 7, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def host() -> Iterator[Simulator]:
    """An archive of two segments, which wants a token for its plans."""
    simulator = Simulator(
        NETWORK,
        clock=(SINCE + timedelta(minutes=11)).timestamp,
        archive_since=SINCE,
        segment_minutes=5,
        block_events=100,
        api_token="open-sesame",
    )
    with running(simulator):
        yield simulator


def ask(host: Simulator | str, *words: str, token: str = "open-sesame") -> Result:
    name = host if isinstance(host, str) else host.address
    return CliRunner().invoke(cli, ["archive", *words, "-i", name], env={"JETSTREAM_API_TOKEN": token})


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def cells(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line]


def test_segments_are_listed(host: Simulator) -> None:
    segments = objects(ask(host, "list", "--format", "ndjson", token=""))
    assert [one["name"] for one in segments] == ["seg_0000000000.jss", "seg_0000000001.jss"]
    events = list(host.archived_events(0, 2**62))
    assert (segments[0]["min_seq"], segments[1]["max_seq"]) == (events[0].seq, events[-1].seq)
    assert sum(one["event_count"] for one in segments) == len(events)
    result = ask(host, "list")
    assert f": 2 segments, {len(events):,} events, " in result.stdout
    for one, row in zip(segments, cells(result), strict=True):
        assert row[:2] == [one["name"], one["checksum"]]
        assert row[4:] == [
            str(one["min_seq"]),
            str(one["max_seq"]),
            f"{one['event_count']:,}",
            f"{one['size_bytes']:,}",
        ]
        assert row[2].startswith("2026-07-04 12:0")


def test_a_plan_names_what_would_be_downloaded(host: Simulator) -> None:
    segments = objects(ask(host, "list", "-f", "ndjson"))
    whole = objects(ask(host, "plan", "-f", "ndjson"))
    assert [(one["name"], one["checksum"], one["blocks"]) for one in whole] == [
        (one["name"], one["checksum"], None) for one in segments
    ]
    events = list(host.archived_events(0, 2**62))
    (did,) = {event.did for event in events[:1]}
    (narrow, *_) = objects(ask(host, "plan", "-d", did, "-f", "ndjson"))
    assert narrow["blocks"][0] == 0
    assert len(narrow["blocks"]) < len(events) / 200 / 2
    assert objects(ask(host, "plan", "-c", "com.nobody.has.this", "--kinds", "commit", "-f", "ndjson")) == []
    accounts = objects(ask(host, "plan", "--kinds", "account", "-f", "ndjson"))
    assert 0 < sum(len(one["blocks"] or ()) for one in accounts) < len(events) / 100


def test_a_plan_is_for_the_numbers_that_were_asked_for(host: Simulator) -> None:
    first, second = objects(ask(host, "list", "-f", "ndjson"))
    (later,) = objects(ask(host, "plan", "--after", str(first["max_seq"]), "-f", "ndjson"))
    assert later["name"] == second["name"]
    (earlier,) = objects(ask(host, "plan", "--before", str(first["min_seq"] + 1), "-f", "ndjson"))
    assert (earlier["name"], earlier["blocks"]) == (first["name"], [0])
    assert objects(ask(host, "plan", "--after", str(second["max_seq"]), "-f", "ndjson")) == []


def test_people_get_a_plan_as_a_table(host: Simulator) -> None:
    first, second = objects(ask(host, "list", "-f", "ndjson"))
    result = ask(host, "plan", "--before", str(first["min_seq"] + 1))
    assert f": 1 segments, sealed to {first['min_seq'] + 1}" in result.stdout
    seqs = [str(first["min_seq"]), str(first["max_seq"])]
    assert cells(result) == [[first["name"], first["checksum"], *seqs, "0"]]
    *_, last = cells(ask(host, "plan"))
    assert (last[0], last[-1]) == (second["name"], "all")


def test_an_archive_of_nothing_yet_is_empty() -> None:
    with running(Simulator(NETWORK, clock=SINCE.timestamp, archive_since=SINCE)) as simulator:
        assert objects(ask(simulator, "list", "-f", "ndjson")) == []
        assert ": 0 segments, 0 events, 0.0 MB" in ask(simulator, "list").stdout
        assert objects(ask(simulator, "plan", "-f", "ndjson")) == []


@pytest.mark.parametrize(
    ("words", "token", "told"),
    [
        (["plan"], "", "set JETSTREAM_API_TOKEN"),
        (["plan"], "wrong-secret", "set another JETSTREAM_API_TOKEN"),
        (["plan", "--after", "7", "--before", "7"], "open-sesame", "--before 7 is not after --after 7"),
        (["plan", "-c", "posts"], "open-sesame", "'posts' is not a collection"),
        (["plan", "-d", "alice"], "open-sesame", "'alice' is not a DID"),
        (["plan", "--after", "-1"], "open-sesame", "--after"),
        (["list", "-i", "http://nowhere"], "", "nowhere"),
    ],
)
def test_what_cannot_be_asked_is_a_line_and_exit_code_2(
    words: list[str],
    token: str,
    told: str,
    host: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = complaint(["-i", host.address], words, token, capsys, monkeypatch)
    assert told in said
    assert not token or token not in said


def test_a_host_without_an_archive_is_a_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Simulator(NETWORK)) as simulator:
        for word in ("list", "plan"):
            said = complaint(["-i", simulator.address], [word], "", capsys, monkeypatch)
            assert "none of these hosts has an archive" in said


def complaint(
    host: list[str],
    words: list[str],
    token: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The one line."""
    monkeypatch.setattr("sys.argv", ["jetstream-pipeline", "archive", *words, *host])
    monkeypatch.setenv("JETSTREAM_API_TOKEN", token)
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out, len(told.err.splitlines())) == (2, "", 1)
    return told.err
