"""What a connection needs to know of its server."""

from __future__ import annotations

from typing import Protocol

from jetstream_pipeline.simulator.fault_plan import FaultPlan
from jetstream_pipeline.simulator.page_cache import PageCache
from jetstream_pipeline.simulator.timeline import Timeline


class Host(Protocol):
    pages: PageCache
    timeline: Timeline
    faults: FaultPlan
    ping_interval: float
    pong_timeout: float
    speaks_v2: bool
