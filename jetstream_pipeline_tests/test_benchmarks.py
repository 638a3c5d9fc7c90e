"""Benchmarks that read a lake say what they found, and ask views and native tables the same."""

from pathlib import Path

import pytest

from benchmarks import lake, queries, tables


def test_views_and_native_tables_answer_alike(tmp_path: Path) -> None:
    data = lake.make(tmp_path, 2, rate=1.0, processes=1)
    timings = queries.measure(data, 1)
    assert [timing.query for timing in timings] == list(queries.QUERIES)
    assert sum(timing.query.judged for timing in timings) == 10
    assert [timing.query.name for timing in timings if not timing.agreed] == []
    assert queries.native(data).exists()


@pytest.mark.parametrize(
    ("seconds", "native_seconds", "agreed", "judged", "verdict"),
    [
        (0.9, 0.1, True, True, "ok"),
        (1.9, 1.0, True, True, "ok"),
        (2.1, 1.0, True, True, "SLOW"),
        (0.1, 0.1, False, True, "DIFFERS"),
        (2.1, 1.0, True, False, ""),
        (0.1, 0.1, False, False, "DIFFERS"),
    ],
)
def test_a_query_is_in_order_where_it_is_quick_or_near_to_native(
    seconds: float, native_seconds: float, agreed: bool, judged: bool, verdict: str
) -> None:
    timing = queries.Timing(queries.Query("", "", judged), seconds, native_seconds, agreed)
    assert timing.verdict == verdict
    assert timing.in_order == (verdict in ("ok", ""))


def test_tables_are_measured_each_and_all_together(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        tables.main(["--data", str(tmp_path), "--rate", "1", "--passes", "1", "--processes", "1"])
    said = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in said[3:12]]
    assert names == [*(table.name for table in tables.TABLES), "together"]
    assert "to the events' bytes (at most 40%)" in said[-1]
