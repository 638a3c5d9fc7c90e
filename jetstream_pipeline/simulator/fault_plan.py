"""The faults of one server, as they are used up.

Which faults there are belongs to `faults`.
"""

from __future__ import annotations

from collections.abc import Sequence

from jetstream_pipeline.simulator.faults import Faults
from jetstream_pipeline.simulator.pages import Page


class FaultPlan:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._pending_seqs = set(faults.cut_at_seqs)
        self._connections = 0

    def connection_number(self) -> int:
        """Count one more subscription; the first is number 0."""
        self._connections += 1
        return self._connections - 1

    def events_before_cut(self, connection: int, already_sent: int, page: Page, selected: Sequence[int]) -> int | None:
        """How many of the events about to be sent still go out before the cut; None if all of them do."""
        cuts = []
        limits = self._faults.cut_after_events
        if connection < len(limits) and limits[connection] - already_sent <= len(selected):
            cuts.append(max(0, limits[connection] - already_sent))
        if self._pending_seqs:
            cut = next((at for at, i in enumerate(selected) if page.seqs[i] in self._pending_seqs), None)
            if cut is not None:
                cuts.append(cut + 1)
        if not cuts:
            return None
        number = min(cuts)
        if number:
            self._pending_seqs.discard(page.seqs[selected[number - 1]])
        return number
