"""What is beyond its limit is gone from every view and asked for by nobody; whatever has a reason to stay, stays."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.feeding.feeding import feed_window
from jetstream_pipeline.retention import prune
from jetstream_pipeline.retention.prune import Pruned, Pruning
from jetstream_pipeline.retention.rules import Limit, Retention
from jetstream_pipeline.storage import days
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.horizon import read_horizon
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.tables.build import build_stale, build_table
from jetstream_pipeline.tables.compaction import Compaction
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import querying
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.object_store import ObjectStore
from jetstream_pipeline_tests.windows import HOUR, commit, store

DAY = timedelta(days=1)
OLD = [Window.hour(HOUR.start - number * DAY) for number in (3, 2, 1)]
"""The oldest first; none is beside another."""
NOW = HOUR.start + timedelta(minutes=30)
BUILT = [table for table in TABLES if table.name in ("posts", "likes")]
ONE_DAY = Limit(days=1)


def fill(data: DataDirectory, *windows: Window) -> None:
    for window in windows:
        store(data, [commit('{"text":"one"}'), commit('{"text":"two"}', number=1)], window)
        for table in BUILT:
            build_table(table, "network", window, data.lake)


def run(data: DataDirectory, retention: Retention, *feeds: Feed, dry_run: bool = False) -> list[Pruned]:
    return list(Pruning(data, "network", retention, feeds).run(NOW, dry_run=dry_run))


def starts(data: DataDirectory, view: str) -> list[str]:
    with querying(data) as connection:
        query = f"SELECT DISTINCT strftime(date, '%Y-%m-%d-') || hour || ':00' AS hour FROM {view} ORDER BY hour"
        return [start for (start,) in connection.execute(query).fetchall()]


def keys(*windows: Window) -> list[str]:
    return [window.key for window in windows]


def files(data: DataDirectory) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in data.lake.root.rglob("*.parquet")}


def test_what_is_beyond_the_limit_is_gone_from_every_view_and_the_rest_is_as_it_was(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    before = files(data)
    pruned = run(data, Retention(ONE_DAY, ONE_DAY))
    assert [(one.what, one.window, one.kept) for one in pruned] == [
        ("tables", OLD[0], None), ("tables", OLD[1], None), ("events", OLD[0], None), ("events", OLD[1], None),
    ]  # fmt: skip
    assert all(one.bytes > 0 and one.why == "older than 1 days" for one in pruned)
    assert starts(data, "events") == starts(data, "posts") == keys(OLD[2], HOUR)
    after = files(data)
    assert after == {path: before[path] for path in after}
    assert not list(data.lake.root.rglob(f"date={OLD[0].start:%Y-%m-%d}"))
    assert not list(data.staging.rglob("*-pruning"))


def test_tables_and_events_have_limits_of_their_own(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    run(data, Retention(tables=ONE_DAY))
    assert starts(data, "events") == keys(*OLD, HOUR)
    assert starts(data, "posts") == keys(OLD[2], HOUR)
    assert build_stale("network", OLD[0], data.lake) == [], "nobody wants tables of it any more"
    run(data, Retention(events=Limit(days=2), tables=Limit(days=30)))
    assert starts(data, "events") == keys(*OLD[1:], HOUR)
    said = read_horizon(data.lake.horizon_path("network"))
    assert said.derived == said.tables == OLD[2].start
    assert said.events == OLD[1].start


def test_a_dry_run_says_the_same_and_changes_nothing(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    before = files(data)
    told = run(data, Retention(ONE_DAY, ONE_DAY), dry_run=True)
    assert files(data) == before
    assert read_horizon(data.lake.horizon_path("network")).events is None
    assert run(data, Retention(ONE_DAY, ONE_DAY)) == told
    assert run(data, Retention(ONE_DAY, ONE_DAY)) == []


def test_incomplete_windows_and_unreadable_messages_go_with_the_events(data: DataDirectory) -> None:
    store(data, [commit("{}"), b"garbage"], OLD[0], state=WindowState.TRUNCATED)
    store(data, [b"garbage"], OLD[1])
    fill(data, HOUR)
    assert [(one.window, one.kept) for one in run(data, Retention(ONE_DAY))] == [(OLD[0], None), (OLD[1], None)]
    assert starts(data, "incomplete_events") == starts(data, "quarantine") == []


def test_by_size_the_oldest_go(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    size = sum(path.stat().st_size for path in data.lake.windows("network"))
    pruned = run(data, Retention(Limit(gigabytes=size * 0.75 / 1e9)))
    assert [one.window for one in pruned] == OLD[:1]
    run(data, Retention(Limit(gigabytes=1e-9), Limit(gigabytes=1e-9)))
    assert starts(data, "events") == starts(data, "posts") == keys(HOUR), "the newest stays, however large it is"


def test_what_a_queue_has_not_had_as_it_stands_stays(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    feed = Feed("work")
    assert run(data, Retention(ONE_DAY), feed)[0].kept == "the queue work has not had all of it"
    feed_window("network", OLD[0], feed, data)
    feed_window("network", OLD[1], feed, data)
    store(data, [commit('{"text":"another"}')], OLD[1])
    kept = {one.window: one.kept for one in run(data, Retention(ONE_DAY), feed)}
    assert kept == {OLD[0]: None, OLD[1]: "the queue work has not had all of it"}
    assert len(Queue("work", data_dir=data.root)) == 4
    other = Feed("work", operations=("create",))
    assert run(data, Retention(ONE_DAY), other)[0].kept, "by another filter it may lack something"


def test_what_a_run_is_at_stays_and_keeps_nothing_else(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    with staged(data, "network", OLD[0]) as under_way:
        kept = {one.window: one.kept for one in run(data, Retention(ONE_DAY))}
        under_way.discard()
    assert "another run is at" in (kept[OLD[0]] or "")
    assert kept[OLD[1]] is None


def test_who_reads_a_file_reads_on(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    path = data.lake.events_path("network", OLD[0])
    content = path.read_bytes()
    with path.open("rb") as file:
        run(data, Retention(ONE_DAY))
        assert not path.exists()
        assert file.read() == content


@pytest.fixture
def copy(data: DataDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a lake of four windows."""
    fill(data, *OLD, HOUR)
    place = tmp_path_factory.mktemp("backup") / "lake"
    shutil.copytree(data.lake.root, place)
    return place


def in_copy(data: DataDirectory, copy: Path, path: Path) -> Path:
    return copy / path.relative_to(data.lake.root)


def test_only_what_the_copy_is_shown_to_hold_is_deleted(data: DataDirectory, copy: Path) -> None:
    own = data.lake.events_path("network", OLD[0])
    in_copy(data, copy, own).unlink()
    limits = Retention(ONE_DAY, backed_up=str(copy))
    first, second = run(data, limits)
    assert first.kept == f"there is no copy of it that can be read: {in_copy(data, copy, own)}"
    assert second.kept is None
    shutil.copy(own, in_copy(data, copy, own))
    assert [one.kept for one in run(data, limits)] == [None]


def test_a_copy_that_is_cut_off_or_of_other_rows_or_longer_is_none(data: DataDirectory, copy: Path) -> None:
    own = data.lake.events_path("network", OLD[0])
    theirs = in_copy(data, copy, own)
    whole = theirs.read_bytes()
    limits = Retention(ONE_DAY, backed_up=str(copy))
    theirs.write_bytes(whole[: len(whole) // 2])
    assert "no copy of it that can be read" in (run(data, limits)[0].kept or "")
    shutil.copy(in_copy(data, copy, data.lake.events_path("network", HOUR)), theirs)
    store(data, [commit('{"text":"other rows"}')], OLD[0])
    assert "is another one" in (run(data, limits)[0].kept or "")
    shutil.copy(own, theirs)
    theirs.write_bytes(theirs.read_bytes()[:-4] + b"more" + theirs.read_bytes()[-4:])
    assert run(data, limits)[0].kept
    assert own.exists()


def test_tables_are_held_against_their_copies(data: DataDirectory, copy: Path) -> None:
    own = data.lake.table_path("network", "likes", OLD[0])
    in_copy(data, copy, own).unlink()
    first, second = run(data, Retention(tables=ONE_DAY, backed_up=str(copy)))
    assert str(in_copy(data, copy, own)) in (first.kept or "")
    assert second.kept is None
    assert own.exists()


def test_messages_in_quarantine_are_in_no_copy(data: DataDirectory, copy: Path) -> None:
    store(data, [b"garbage"], OLD[0])
    shutil.copy(data.lake.events_path("network", OLD[0]), in_copy(data, copy, data.lake.events_path("network", OLD[0])))
    assert "quarantine" in (run(data, Retention(ONE_DAY, backed_up=str(copy)))[0].kept or "")


def test_the_lake_is_no_copy_of_itself(data: DataDirectory) -> None:
    fill(data, *OLD, HOUR)
    (data.root / "link").symlink_to(data.lake.root)
    for place in (data.lake.root, data.root / "link"):
        with pytest.raises(InvalidInput, match="is the lake itself"):
            run(data, Retention(ONE_DAY, backed_up=str(place)))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", range(len(BUILT) + 1))
def test_killed_at_any_file_it_is_gone_on_with_and_no_window_is_there_again(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    fill(data, OLD[0], HOUR)
    left, unlink = after, prune.delete

    def dying(path: Path) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        unlink(path)

    monkeypatch.setattr(prune, "delete", dying)
    with pytest.raises(Killed):
        run(data, Retention(ONE_DAY, ONE_DAY))
    assert read_horizon(data.lake.horizon_path("network")).events == OLD[2].start, "nobody misses what is going"
    assert starts(data, "events") == keys(OLD[0], HOUR), "the events go last"
    monkeypatch.undo()
    run(data, Retention(ONE_DAY, ONE_DAY))
    assert starts(data, "events") == starts(data, "posts") == keys(HOUR)


def test_in_an_object_store_it_is_the_same(remote_data: DataDirectory, object_store: ObjectStore) -> None:
    fill(remote_data, *OLD, HOUR)
    copy = object_store.url.replace("/lake", "/copy")
    own = remote_data.lake.events_path("network", OLD[0])
    own.fs.copy(str(own), str(own).replace("/lake/", "/copy/"))
    kept = {one.window: one.kept for one in run(remote_data, Retention(ONE_DAY, backed_up=copy))}
    assert kept[OLD[0]] is None
    assert "there is no copy of it that can be read: s3://" in (kept[OLD[1]] or "")
    assert remote_data.lake.whole("network") == {*OLD[1:], HOUR}
    assert read_horizon(remote_data.lake.horizon_path("network")).events == OLD[2].start
    with pytest.raises(InvalidInput, match="is the lake itself"):
        run(remote_data, Retention(ONE_DAY, backed_up=object_store.url))


DAY_START = HOUR.start.date() - 3 * DAY
HOURS = hours_of(DAY_START)


@pytest.fixture
def compacted(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    """A day as one file, whose hours' files have not been removed yet, and a window of today."""
    monkeypatch.setattr(days, "SEEN_SEC", 0.0)
    for window in (*HOURS, HOUR):
        store(data, [commit('{"text":"one"}')], window)
    assert [one.kept for one in Compaction(data, "network").run(HOUR.start.date())] == [None]
    return data


def test_a_day_that_is_one_file_goes_when_all_of_it_is_due(compacted: DataDirectory) -> None:
    last = HOURS[-1].end + DAY
    early = Pruning(compacted, "network", Retention(ONE_DAY)).run(last - timedelta(minutes=1))
    assert list(early) == []
    (gone,) = Pruning(compacted, "network", Retention(ONE_DAY)).run(last)
    assert (gone.window.start, gone.window.end, gone.kept) == (HOURS[0].start, HOURS[-1].end, None)
    assert compacted.lake.whole("network") == {HOUR}
    assert starts(compacted, "events") == keys(HOUR)
    assert not compacted.lake.marked("network")


def test_a_day_is_held_against_a_copy_of_it_or_of_its_hours(
    compacted: DataDirectory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("backup") / "lake"
    shutil.copytree(compacted.lake.root, copy)
    folder = copy / "network" / "events" / f"date={DAY_START}"
    limits = Retention(ONE_DAY, backed_up=str(copy))
    whole = (folder / "events.parquet").read_bytes()
    (folder / "events.parquet").write_bytes(whole[:-8] + b"0" * 9)
    assert [one.kept is None for one in run(compacted, limits, dry_run=True)] == [False]
    (folder / "events.parquet").unlink()
    assert [one.kept for one in run(compacted, limits, dry_run=True)] == [None], "the hours are there"
    (folder / "hour=07" / "events.parquet").unlink()
    assert [one.kept is None for one in run(compacted, limits, dry_run=True)] == [False]
    (folder / "events.parquet").write_bytes(whole)
    assert [one.kept for one in run(compacted, limits)] == [None]


def test_a_day_that_a_queue_has_not_had_stays(compacted: DataDirectory) -> None:
    (one,) = run(compacted, Retention(ONE_DAY), Feed("work"))
    assert one.kept == "the queue work has not had all of it"
