"""What a replay has seen, and the state that follows from it."""

import pytest

from jetstream_pipeline.jetstream.errors import Gap
from jetstream_pipeline.replay.evidence import Evidence
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline_tests.windows import HOUR

SECOND = 1_000_000
BEGUN = Evidence(fingerprint="f", version="1", skew_us=30 * SECOND, cursor=HOUR.start_us - 60 * SECOND)
LEAD = Gap("a", BEGUN.cursor, HOUR.start_us)
LOST = Gap("b", BEGUN.cursor, HOUR.start_us + 1)
SILENT = "the stream fell silent before it was seen to pass the window's end"
NO_START = "nothing showed that the host still had the window's start"


@pytest.mark.parametrize(
    ("gaps", "start", "end", "state", "reason"),
    [
        ([], "start", "end", WindowState.COMPLETE, "start; end"),
        ([LEAD], None, "end", WindowState.COMPLETE, f"{LEAD}; end"),
        ([LEAD, LEAD], None, "end", WindowState.COMPLETE, f"{LEAD}; {LEAD}; end"),
        ([LEAD], "start", "end", WindowState.COMPLETE, "start; end"),
        ([], None, "end", WindowState.UNPROVEN, NO_START),
        ([], "start", None, WindowState.UNPROVEN, SILENT),
        ([LEAD], "start", None, WindowState.UNPROVEN, SILENT),
        ([], None, None, WindowState.UNPROVEN, SILENT),
        ([LOST], "start", "end", WindowState.TRUNCATED, str(LOST)),
        ([LEAD, LOST, LOST], "start", None, WindowState.TRUNCATED, f"{LOST}; {LOST}"),
    ],
)
def test_a_window_is_whole_where_its_start_and_its_end_were_shown_and_nothing_of_it_is_lost(
    gaps: list[Gap], start: str | None, end: str | None, state: WindowState, reason: str
) -> None:
    seen = BEGUN.model_copy(update={"gaps": gaps, "start_shown_by": start, "end_shown_by": end})
    assert seen.verdict(HOUR) == (state, reason)
    assert seen.lacks_lead == bool(gaps)


@pytest.mark.parametrize(
    "other",
    [{"fingerprint": "g"}, {"version": "2"}, {"skew_us": 31 * SECOND}],
    ids=lambda other: str(*other),
)
def test_another_reading_is_not_gone_on_with(other: dict[str, object]) -> None:
    assert BEGUN.model_copy(update={"repeats": 7}).can_be_gone_on_with(BEGUN)
    assert not BEGUN.can_be_gone_on_with(BEGUN.model_copy(update=other))


def test_of_all_runs_the_last_two_hundred_endings_are_kept() -> None:
    earlier = BEGUN.model_copy(update={"connections": [str(number) for number in range(150)]})
    assert earlier.with_connections(["last"]) == [*earlier.connections, "last"]
    assert earlier.with_connections(["x"] * 60) == [*earlier.connections[10:], *["x"] * 60]
