"""Windows in a lake for tests that do not care how they came there."""

from collections.abc import Sequence
from datetime import UTC, datetime

from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.storage.lake import WindowState, WindowSummary
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, quarantined
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.window import Window

HOUR = Window.hour(datetime(2026, 7, 4, 14, tzinfo=UTC))


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
    summary = WindowSummary(
        stream=stream,
        start=window.start,
        end=window.end,
        state=state,
        reason="a test says so",
        fingerprint="f",
        events=decoded.events.num_rows,
        first_time=None,
        last_time=None,
        counts_by_kind={"commit": decoded.events.num_rows},
        counts_by_collection={},
        host="host",
        wire="v1",
        cursor=window.start_us,
        connections=[],
        repeats=0,
        quarantined=len(decoded.rejected),
        seconds=seconds,
        finished_at=window.end,
        version="0",
    )
    with staged(data, stream, window) as files:
        files.add(decoded.events)
        if decoded.rejected:
            rejected = [Unreadable(item.message, item.reason, window.start_us) for item in decoded.rejected]
            files.add_rejected(quarantined(rejected, received_at=window.end, host="host"))
        files.commit(summary)
    return summary


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
