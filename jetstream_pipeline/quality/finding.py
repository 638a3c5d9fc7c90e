"""What a look at a window found. Looking is the other modules' work; what follows from it is the caller's."""

from __future__ import annotations

from dataclasses import dataclass, field

Figures = dict[str, int | float | str]


@dataclass(frozen=True)
class Finding:
    """Whether all is as it should be, in one line for people, with the numbers behind it."""

    passed: bool
    text: str
    figures: Figures = field(default_factory=dict)
