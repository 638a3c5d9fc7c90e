"""What a connection needs to know of its server."""

from __future__ import annotations

from typing import Protocol

from jetstream_pipeline.simulator.archive import Archive
from jetstream_pipeline.simulator.fault_plan import FaultPlan
from jetstream_pipeline.simulator.pace import Pace
from jetstream_pipeline.simulator.page_cache import PageCache
from jetstream_pipeline.simulator.timeline import Position, Timeline


class Host(Protocol):
    pages: PageCache
    timeline: Timeline
    faults: FaultPlan
    pace: Pace
    ping_interval: float
    pong_timeout: float
    speaks_v2: bool
    archive: Archive | None
    api_token: str | None
    plan_entries: int

    @property
    def is_warming_up(self) -> bool: ...

    async def retire_dictionary(self) -> None:
        """Have another dictionary for the second wire, and send away who used the old one."""

    async def crash(self, position: Position, lost: int) -> None:
        """End all connections, and witness what stands around this position once more."""

    async def compact(self, share: float | None = None) -> None:
        """Rewrite the archive's segments without some records."""
