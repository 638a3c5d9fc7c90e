"""What goes wrong on purpose, and when, as a test or a demo writes it down.

Playing it belongs to `fault_plan` and `connection`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """Nothing goes wrong by default."""

    cut_after_events: tuple[int, ...] = ()
    """Connection number i ends, without a close frame, after it sent this many events; later ones stay."""
    cut_at_seqs: frozenset[int] = frozenset()
    """Each of these ends the connection that sent it, once, right after the event."""
