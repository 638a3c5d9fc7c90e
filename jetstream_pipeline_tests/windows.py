"""Windows in a lake for tests that do not care how they came there."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.jetstream.errors import Gap
from jetstream_pipeline.jetstream.subscription import Subscription
from jetstream_pipeline.replay.edges import Section
from jetstream_pipeline.replay.evidence import Evidence
from jetstream_pipeline.replay.sealing import Place, seal
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, quarantined
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.storage.summary import WindowState, WindowSummary
from jetstream_pipeline.window import Window

HOUR = Window.hour(datetime(2026, 7, 4, 14, tzinfo=UTC))


def latest(hour: int) -> Window:
    """The latest such hour of a day that ended three hours ago or earlier. A simulated network's evening has twice the
    events of its night."""
    ended = datetime.now(UTC) - timedelta(hours=4)
    moment = ended.replace(hour=hour)
    return Window.hour(moment if moment <= ended else moment - timedelta(days=1))


def store(
    data: DataDirectory,
    messages: Sequence[bytes],
    window: Window = HOUR,
    *,
    stream: str = "network",
    state: WindowState = WindowState.COMPLETE,
    seconds: float = 1.0,
) -> WindowSummary:
    """Put messages into the lake as a window's events, and into quarantine what is none."""
    decoded = decode(messages, "host")
    rejected = [Unreadable(item.message, item.reason, window.start_us) for item in decoded.rejected]
    with staged(data, stream, window) as files:
        files.add(Section.WINDOW, decoded.events)
        if rejected:
            files.add_rejected(quarantined(rejected, received_at=window.end, host="host", wire=Wire.V1))
        summary = seal(Place(data, stream, window, Subscription(), True), files, evidence(window, state, seconds))
        files.discard()
    return summary


def evidence(window: Window, state: WindowState = WindowState.COMPLETE, seconds: float = 1.0) -> Evidence:
    """What makes a window of this state. Each window is of a filter of its own: neighbours have no say."""
    gap = Gap("host", window.start_us, window.end_us)
    return Evidence(
        fingerprint=window.key,
        version="0",
        skew_us=30_000_000,
        cursor=window.start_us,
        hosts=["host"],
        wires=[Wire.V1],
        seconds=seconds,
        start_shown_by="a test says so",
        end_shown_by=None if state is WindowState.UNPROVEN else "a test says so",
        gaps=[gap] if state is WindowState.TRUNCATED else [],
    )


def commit(record: str, collection: str = "app.bsky.feed.post", number: int = 0) -> bytes:
    """A create's message, with its record's JSON text as given."""
    return (
        f'{{"did":"did:plc:a{number}","time_us":{HOUR.start_us + number},"kind":"commit","commit":{{"rev":"3k{number}",'
        f'"operation":"create","collection":"{collection}","rkey":"k{number}","record":{record},"cid":"bafy"}}}}'
    ).encode("utf-8", "surrogatepass")


def delete(collection: str = "app.bsky.feed.post", number: int = 0) -> bytes:
    return (
        f'{{"did":"did:plc:a{number}","time_us":{HOUR.start_us + number},"kind":"commit","commit":{{"rev":"3k{number}",'
        f'"operation":"delete","collection":"{collection}","rkey":"k{number}"}}}}'
    ).encode()


def rows_of(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """What a window's file holds, in stream order."""
    rows = pq.ParquetFile(path).read().sort_by("position")
    assert rows["position"].to_pylist() == list(range(rows.num_rows))
    return rows.drop_columns("position") if columns is None else rows.select(columns)
