"""`jetstream-pipeline sql` as a person or a pipe meets it."""

import csv
import io
import json
from pathlib import Path

import pytest

from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline_tests.cli.commands import told
from jetstream_pipeline_tests.windows import HOUR, commit, store

HOSTILE = "\x1b]0;owned\x07[bold] 日本語\nnew, line"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = DataDirectory(tmp_path)
    store(data, [commit(json.dumps({"text": HOSTILE, "langs": ["ja"]})), commit("{}", number=1)])
    build_table(TABLES[0], "network", HOUR, data.lake)
    return tmp_path


def test_json_is_one_object_a_line_with_typed_values(folder: Path) -> None:
    result = told(folder, "sql", "-f", "json", "SELECT text, langs, images, time FROM posts ORDER BY time")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"text": HOSTILE, "langs": ["ja"], "images": 0, "time": "2026-07-04 14:00:00+00"},
        {"text": None, "langs": [], "images": 0, "time": "2026-07-04 14:00:00.000001+00"},
    ]


def test_json_is_json_whatever_the_values_and_names(folder: Path) -> None:
    query = "SELECT 'nan'::DOUBLE AS n, ['inf'::DOUBLE, 1.5] AS l, 'NaN' AS t, 2::HUGEINT ** 70 AS h, 1 AS result"
    result = told(folder, "sql", "-f", "json", query)
    assert json.loads(result.stdout) == {"n": None, "l": [None, 1.5], "t": "NaN", "h": 2.0**70, "result": 1}
    assert told(folder, "sql", "-f", "json", "SELECT 1 AS result").stdout == '{"result":1}\n'


def test_a_pivot_is_a_query(folder: Path) -> None:
    query = "PIVOT (SELECT rkey, images FROM posts) ON rkey USING sum(images)"
    assert told(folder, "sql", "-f", "csv", query).stdout == "k0,k1\n0,0\n"


def test_csv_reads_back(folder: Path) -> None:
    result = told(folder, "sql", "-f", "csv", "SELECT text, rkey FROM posts ORDER BY time")
    assert list(csv.reader(io.StringIO(result.stdout))) == [["text", "rkey"], [HOSTILE, "k0"], ["", "k1"]]


def test_a_table_shows_text_without_letting_it_steer_the_terminal(folder: Path) -> None:
    result = told(folder, "sql", "SELECT text FROM posts ORDER BY time")
    assert result.returncode == 0
    assert r"\x1b]0;owned\x07[bold] 日本語\nnew, line" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_long_table_says_that_it_is_cut(folder: Path) -> None:
    result = told(folder, "sql", "SELECT * FROM range(1001)")
    assert "first 1,000 rows" in result.stderr
    assert "999" in result.stdout
    assert "1000" not in result.stdout


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM posts", '"nothing" not found'),
        ("SELECT text::INTEGER FROM posts", "Could not convert"),
        ("CREATE TABLE t AS SELECT 1", "give one statement that reads"),
        ("COPY (SELECT 1) TO 'written.csv'", "give one statement that reads"),
        ("SELECT 1; SELECT 2", "give one statement that reads"),
        ("", "give one statement that reads"),
    ],
)
def test_a_query_that_cannot_run_is_told_in_one_line(folder: Path, query: str, words: str) -> None:
    result = told(folder, "sql", query)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_data_one_line_says_what_to_do(tmp_path: Path) -> None:
    result = told(tmp_path / "none", "sql", "SELECT 1")
    assert result.returncode == 2
    assert "replay a window first" in result.stderr
