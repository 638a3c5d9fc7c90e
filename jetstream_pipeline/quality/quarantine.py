"""How much of what came could not be read."""

from __future__ import annotations

from jetstream_pipeline.quality.finding import Figures, Finding
from jetstream_pipeline.storage.summary import WindowSummary

_TOLERATED = 0.001


def quarantine_share(window: WindowSummary) -> Finding:
    """Passes where at most one message in a thousand could not be read."""
    came = window.events + window.quarantined
    share = window.quarantined / came if came else 0.0
    figures: Figures = {"quarantined": window.quarantined, "share": round(share, 6)}
    if not window.quarantined:
        return Finding(True, f"every one of {came:,} messages could be read", figures)
    told = f"{window.quarantined:,} of {came:,} messages could not be read ({share:.2%})"
    if share <= _TOLERATED:
        return Finding(True, told, figures)
    return Finding(False, f"{told}; see why: jetstream-pipeline quarantine list", figures)
