"""What is told of a segment, and of what is none."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jetstream_pipeline.archive.errors import DamagedSegment, UnsealedSegment
from jetstream_pipeline.cli.main import cli, main
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
