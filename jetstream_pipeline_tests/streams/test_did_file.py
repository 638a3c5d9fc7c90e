"""Files of DIDs are as people write them, and one that is none is told."""

from pathlib import Path

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.streams.did_file import read_dids


def test_there_is_one_a_line_beside_comments_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "dids.txt"
    path.write_bytes(b"# mine\r\n\r\n  did:plc:a  # Alice\r\n\tdid:web:b.example\ndid:plc:c")
    assert read_dids(path) == ["did:plc:a", "did:web:b.example", "did:plc:c"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read DIDs from .*dids.txt: No such file"),
        (b"\xff\xfe", "cannot read DIDs from .*dids.txt: it is not text"),
        (b"", "dids.txt names no DID; write one a line"),
        (b"# nobody\n\n  \n", "dids.txt names no DID; write one a line"),
    ],
)
def test_a_file_that_names_nobody_is_told(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "dids.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        read_dids(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read DIDs from .*: Is a directory"):
        read_dids(tmp_path)
