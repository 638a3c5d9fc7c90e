"""A report in words: its figures as Markdown. What strangers wrote stands in it as code, which nothing interprets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from jetstream_pipeline.report.figures import Figures, Ranked
from jetstream_pipeline.report.labels import label
from jetstream_pipeline.window import Window

_LONGEST = 120
_ALTERNATIVE = "Events per minute, posts by language, hashtags and linked domains"


def written(figures: Figures, stream: str, window: Window, picture: str) -> str:
    """The report as Markdown, with its picture from the address `picture`."""
    parts = [f"# {code(stream)}, {window}", f"![{_ALTERNATIVE}](<{picture}>)", _totals(figures)]
    if figures.per_minute:
        series = [("others" if one.is_rest else code(one.label), one.total) for one in figures.per_minute]
        parts.append(_table("Events", "events", series))
    rest = [("others", figures.languages_other), ("unstated", figures.languages_unstated)]
    for title, ranking in (
        ("Posts by language", [*_rows(figures.languages), *((name, posts) for name, posts in rest if posts)]),
        ("Hashtags", _rows(figures.hashtags)),
        ("Linked domains", _rows(figures.domains)),
        ("Linked addresses", _rows(figures.addresses)),
    ):
        if ranking:
            parts.append(_table(title, "posts", ranking))
    if figures.events:
        parts.append(_table("Bytes on disk", "bytes", [(one.column, one.bytes) for one in figures.columns]))
    return "\n\n".join(parts) + "\n"


def _totals(figures: Figures) -> str:
    if not figures.events:
        return "No events."
    lines = [
        f"{figures.events:,} events of {figures.accounts:,} accounts: {figures.creates:,} creates, "
        f"{figures.updates:,} updates, {figures.deletes:,} deletes",
        f"{figures.posts:,} posts by {figures.posting_accounts:,} accounts",
    ]
    size = sum(one.bytes for one in figures.columns)
    lines.append(f"{size:,} bytes on disk, {size / figures.events:.1f} an event")
    if figures.events_elsewhere:
        lines.append(f"{figures.events_elsewhere:,} events with a time outside of the window, which no minute has")
    return "\n".join(f"- {line}" for line in lines)


def _rows(ranking: Sequence[Ranked]) -> list[tuple[str, int]]:
    return [(code(one.name), one.posts) for one in ranking]


def _table(title: str, unit: str, rows: Iterable[tuple[str, int]]) -> str:
    lines = [f"| {name} | {count:,} |" for name, count in rows]
    return "\n".join([f"## {title}", "", f"| | {unit} |", "| :-- | --: |", *lines])


def code(text: str) -> str:
    """Strangers' text as a Markdown code span that may stand in a table.

    The one character that cannot, the bar between a table's cells, becomes a broken one.
    """
    shown = label(text, _LONGEST).replace("|", "¦")
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
