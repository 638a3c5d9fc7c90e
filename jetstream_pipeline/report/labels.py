"""Strangers' text made fit to stand in a line of a report: nothing unseen, nothing that runs over, no line too long."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_MARKS = 2
"""Accents on one letter; more of them are there to run over the lines around."""
_IGNORABLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Invisible, though Unicode counts them as letters or marks. Steering and unassigned characters are not printable."""
_NOTHING = "(not printable)"


def label(text: str, longest: int) -> str:
    """`text` in one line of `longest` characters at most, without characters that are not seen or steer others."""
    # Its beginning is enough, and a text may be as long as a stranger likes.
    visible = "".join(_visible(text[: 10 * longest]))
    return shortened(" ".join(visible.split()) or _NOTHING, longest)


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _visible(text: str) -> Iterator[str]:
    marks = 0
    for character in _IGNORABLE.sub("", unicodedata.normalize("NFC", text)):
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if character.isspace():
            yield " "
        elif character.isprintable() and marks <= _MARKS:
            yield character
