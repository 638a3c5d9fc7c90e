"""How much could not be read is told, and is too much above one in a thousand."""

import pytest

from jetstream_pipeline.quality.quarantine import quarantine_share
from jetstream_pipeline_tests.quality.summaries import summary


@pytest.mark.parametrize(
    ("events", "quarantined", "passed", "share", "text"),
    [
        (0, 0, True, 0.0, "every one of 0 messages could be read"),
        (5000, 0, True, 0.0, "every one of 5,000 messages could be read"),
        (1998, 2, True, 0.001, "2 of 2,000 messages could not be read (0.10%)"),
        (1997, 2, False, 0.001001, "2 of 1,999 messages could not be read (0.10%)"),
        (0, 7, False, 1.0, "7 of 7 messages could not be read (100.00%)"),
    ],
)
def test_one_message_in_a_thousand_may_be_unreadable(
    events: int, quarantined: int, passed: bool, share: float, text: str
) -> None:
    found = quarantine_share(summary(events=events, quarantined=quarantined))
    assert found.passed == passed
    assert found.figures == {"quarantined": quarantined, "share": share}
    assert found.text.startswith(text)
    assert ("quarantine list" in found.text) == (not passed)
