"""A window's report stands in its folder whole, is made once for the same events, and anew for others."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.report import build
from jetstream_pipeline.report.build import Report, build_report, report_folder
from jetstream_pipeline.report.figures import Figures, count_figures
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState, read_summary
from jetstream_pipeline_tests import disks
from jetstream_pipeline_tests.report.events import post
from jetstream_pipeline_tests.windows import HOUR, store

FILES = ["report.json", "report.md", "report.png"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def built(data: DataDirectory) -> Report:
    return build_report("network", HOUR, data)


def test_a_report_lies_in_its_hours_folder(data: DataDirectory) -> None:
    store(data, [post(tags=["birds"], langs=["en"])])
    report = built(data)
    assert report.folder == data.root / "reports" / "network" / "date=2026-07-04" / "hour=14"
    assert report.folder == report_folder(data, "network", HOUR)
    files = contents(report.folder)
    assert list(files) == FILES
    assert files["report.md"].decode() == report.markdown()
    assert "![" in report.markdown()
    assert "(<report.png>)" in report.markdown()
    stored = json.loads(files["report.json"])
    assert (stored["stream"], stored["window"]) == ("network", "2026-07-04-14:00")
    assert stored["content"] == read_summary(data.lake.events_path("network", HOUR)).content != ""
    assert Figures.model_validate(stored["figures"]) == report.figures
    assert report.figures == count_figures(data.lake.events_path("network", HOUR), HOUR)


def test_its_text_may_carry_the_picture_itself(data: DataDirectory) -> None:
    store(data, [post()])
    report = built(data)
    kind, _, encoded = report.picture_uri().partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(encoded) == (report.folder / "report.png").read_bytes()
    assert report.markdown(report.picture_uri()) == report.markdown().replace("report.png", report.picture_uri())


def test_an_empty_window_has_a_report(data: DataDirectory) -> None:
    store(data, [])
    report = built(data)
    assert list(contents(report.folder)) == FILES
    assert "No events." in report.markdown()


def test_a_simulated_window_has_a_report(data: DataDirectory) -> None:
    store(data, [event.message for event in Network(rate=1).events(HOUR.start_us, HOUR.end_us)])
    report = built(data)
    assert min(report.figures.posts, len(report.figures.languages), len(report.figures.domains)) > 1
    assert (report.folder / "report.png").stat().st_size < 200_000


def test_the_report_of_the_same_events_is_found_and_not_made_again(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(data, [post(tags=["birds"])])
    first = built(data)
    before = contents(first.folder)
    store(data, [post(tags=["birds"])], state=WindowState.COMPLETE, seconds=9.0)
    monkeypatch.setattr(build, "drawn", None)
    again = built(data)
    assert (first.is_new, again.is_new) == (True, False)
    assert (again.figures, again.markdown()) == (first.figures, first.markdown())
    assert contents(first.folder) == before


def test_other_events_make_another_report(data: DataDirectory) -> None:
    store(data, [post(tags=["birds"])])
    before = contents(built(data).folder)
    store(data, [post(tags=["bees"])])
    report = built(data)
    after = contents(report.folder)
    assert report.is_new
    assert "`bees`" in report.markdown()
    assert all(before[name] != after[name] for name in FILES)
    assert list(after) == FILES


def test_where_it_is_not_known_which_events_a_file_holds_the_report_is_always_made(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(path: Path) -> object:
        return read_summary(path).model_copy(update={"content": ""})

    store(data, [post()])
    monkeypatch.setattr(build, "read_summary", unknown)
    assert [built(data).is_new for _ in range(2)] == [True, True]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [Path.unlink, disks.empty, disks.flip_first, disks.flip_last])
def test_a_report_that_is_not_as_it_was_written_is_made_again(
    name: str, harm: Callable[[Path], None], data: DataDirectory
) -> None:
    store(data, [post()])
    before = contents(built(data).folder)
    harm(report_folder(data, "network", HOUR) / name)
    report = built(data)
    assert report.is_new
    assert contents(report.folder) == before


def test_a_report_of_an_earlier_edition_is_made_again(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    store(data, [post()])
    built(data)
    monkeypatch.setattr(build, "_EDITION", build._EDITION + 1)
    assert [built(data).is_new for _ in range(2)] == [True, False]


def test_a_window_that_is_replaced_meanwhile_is_counted_again(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(data, [post(tags=["old"])])

    def count_slowly(*arguments: object) -> Figures:
        figures = count_figures(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(build, "count_figures", count_figures)
        store(data, [post(tags=["new"])])
        return figures

    monkeypatch.setattr(build, "count_figures", count_slowly)
    assert "`new`" in built(data).markdown()
    assert not built(data).is_new


def test_a_window_that_is_not_whole_has_no_report(data: DataDirectory) -> None:
    store(data, [post()], state=WindowState.TRUNCATED)
    with pytest.raises(InvalidInput, match="holds no whole window network 2026-07-04 14:00"):
        built(data)
    assert not (data.root / "reports").exists()


def test_a_streams_name_stays_in_its_folder(data: DataDirectory) -> None:
    with pytest.raises(InvalidInput, match="cannot name a stream"):
        build_report("../network", HOUR, data)


def test_a_damaged_window_is_told(data: DataDirectory) -> None:
    store(data, [post()])
    disks.truncate(data.lake.events_path("network", HOUR))
    with pytest.raises(StorageError, match=r"events\.parquet is damaged"):
        built(data)


def test_a_disk_that_cannot_be_written_keeps_the_old_report(data: DataDirectory) -> None:
    store(data, [post(tags=["old"])])
    folder = built(data).folder
    before = contents(folder)
    store(data, [post(tags=["new"])])
    with (
        disks.read_only(folder),
        pytest.raises(StorageError, match=r"cannot write .*report\.png: (Read-only|Permission)"),
    ):
        built(data)
    assert contents(folder) == before
    assert built(data).is_new


def test_a_full_disk_leaves_nothing_half_written_and_the_report_is_made_when_there_is_room(data: DataDirectory) -> None:
    store(data, [post(tags=["new"])])
    folder = report_folder(data, "network", HOUR)
    folder.mkdir(parents=True)
    size = len(build.drawn(count_figures(data.lake.events_path("network", HOUR), HOUR), "network", HOUR))
    for room in (size // 2048, size // 1024 + 5):
        with disks.small(folder, room):
            with pytest.raises(StorageError, match="No space left on device"):
                built(data)
            assert "report.json" not in contents(folder)
            assert all(name in FILES for name in contents(folder))
            disks.enlarge(folder, 10_000)
            assert built(data).is_new
            assert list(contents(folder)) == FILES
            assert not built(data).is_new
