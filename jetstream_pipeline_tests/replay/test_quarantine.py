"""What a host sends that is no event is kept with its bytes and reason, and the window goes on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.replay import replay_window
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import WindowState
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.hostile import identity, sending, serving

WINDOW = Window.hour(datetime.now(UTC) - timedelta(hours=3))
HOSTILE = [
    "not JSON",
    '{"did":"did:plc:a"}',
    '{"did":"did:plc:a","time_us":"late","kind":"identity","identity":{}}',
    '{"did":"' + "x" * 20_000_000 + '"}',
    "[" * 100_000 + "]" * 100_000,
]


def test_hostile_messages_end_in_quarantine_and_the_window_is_whole(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    before = identity(WINDOW.start_us - 1, 1)
    after = [identity(WINDOW.end_us + 20_000_000 * number, 99 + number) for number in range(6)]
    inside = [identity(WINDOW.start_us + number, number + 2) for number in range(len(HOSTILE))]
    mixed = [message for pair in zip(inside, HOSTILE, strict=True) for message in pair]
    with serving(sending([before, *mixed, *after])) as host:
        summary = replay_window("network", Subscription(), WINDOW, hosts=[host], data=data)
    assert summary.state is WindowState.COMPLETE
    assert (summary.events, summary.quarantined) == (len(inside), len(HOSTILE))
    rows = pq.ParquetFile(data.quarantine_path("network", WINDOW)).read().to_pylist()
    assert [row["message"].decode() for row in rows] == HOSTILE
    assert [row["size"] for row in rows] == [len(message) for message in HOSTILE]
    assert all(row["reason"] and row["host"] == host.name for row in rows)
