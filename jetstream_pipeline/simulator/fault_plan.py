"""The faults of one server, as they are used up.

Which faults there are belongs to `faults`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from jetstream_pipeline.simulator.faults import ArchiveFault, Fault, Faults
from jetstream_pipeline.simulator.pages import Page


class FaultPlan:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._pending_seqs = set(faults.cut_at_seqs)
        self._subscriptions = 0
        self.lists = _played(faults.lists)
        self.plans = _played(faults.plans)
        self.downloads = _played(faults.downloads)

    def next_subscription(self) -> tuple[int, Fault | None]:
        """Count one more; the first is number 0. Its number and its fault."""
        number = self._subscriptions
        self._subscriptions += 1
        script = self._faults.script
        return number, script[number] if number < len(script) else None

    def events_before_cut(self, number: int, already_sent: int, page: Page, selected: Sequence[int]) -> int | None:
        """How many of the events about to be sent still go out before the cut; None if all of them do."""
        cuts = []
        limits = self._faults.cut_after_events
        if number < len(limits) and limits[number] - already_sent <= len(selected):
            cuts.append(max(0, limits[number] - already_sent))
        if self._pending_seqs:
            cut = next((at for at, i in enumerate(selected) if page.seqs[i] in self._pending_seqs), None)
            if cut is not None:
                cuts.append(cut + 1)
        if not cuts:
            return None
        allowed = min(cuts)
        if allowed:
            self._pending_seqs.discard(page.seqs[selected[allowed - 1]])
        return allowed


def _played(script: Sequence[ArchiveFault | None]) -> Iterator[ArchiveFault | None]:
    """The fault of each request, without an end."""
    return chain(script, repeat(None))
