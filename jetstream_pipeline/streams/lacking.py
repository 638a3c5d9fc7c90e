"""What a stream lacks: its settings and its lake beside each other. Which of it is asked for, and when, is
`catching_up`'s."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime

from jetstream_pipeline.streams.catching_up import Known, Plan, plan
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window


def lacking(stream: Stream, under_way: AbstractSet[Window], now: datetime) -> Plan:
    """The windows that are missing and not under way, oldest first: `waiting` can still be had, `lost` no host's stream
    has any more. Nothing is asked for."""
    settings = stream.settings
    known = Known(stream.data.lake.whole(stream.name), under_way, {})
    return plan(stream.beginning(now), now, known, settle=settings.settle, look_back=settings.look_back, most=0)
