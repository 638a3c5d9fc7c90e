"""A report in one picture: four panels, by matplotlib's objects. Nothing global is touched; counting is `figures`'."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from jetstream_pipeline.events.schema import ACCOUNT, IDENTITY
from jetstream_pipeline.report.figures import Figures, Ranked, Series
from jetstream_pipeline.report.fonts import NO_GLYPH, Fonts
from jetstream_pipeline.window import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 1232, 792
"""No wider than what Dagster shows in its dialogs."""
_DPI = 88
_INK, _PALE_INK, _LINE = "#222222", "#666666", "#E4E4E4"
_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
"""Okabe and Ito's colours, which colour-blind people tell apart."""
_COLLECTION_COLOURS = (_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _RED)
_REST_COLOUR = "#BDBDBD"
_KIND_COLOURS = {IDENTITY: "#F0E442", ACCOUNT: "#000000"}
_ANOTHER_KIND_COLOUR = "#7A7A7A"
_NAME_WIDTH = 154
"""Pixels for a name beside its bar or its square."""


def drawn(figures: Figures, stream: str, window: Window) -> bytes:
    """The picture of a window's figures, as PNG of `WIDTH` by `HEIGHT` pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    fonts = Fonts.of(canvas.get_renderer())
    fonts.put(figure, 0.02, 0.964, f"{stream}, {window}", size=17, color=_INK, weight="bold")
    fonts.put(figure, 0.02, 0.928, _subtitle(figures), size=11, color=_PALE_INK)
    panel = partial(_panel, figure, fonts)
    _draw_minutes(panel("Events per minute", (0.066, 0.54, 0.697, 0.325)), figures.per_minute, window, fonts)
    _draw_bars(panel("Posts by language", (0.075, 0.08, 0.22, 0.36)), _languages(figures), _BLUE, fonts)
    _draw_bars(panel("Hashtags", (0.445, 0.08, 0.19, 0.36)), _bars(figures.hashtags), _GREEN, fonts)
    _draw_bars(panel("Linked domains", (0.79, 0.08, 0.19, 0.36)), _bars(figures.domains), _RED, fonts)
    if any(NO_GLYPH in text.get_text() for text in figure.findobj(Text)):
        note = f"{NO_GLYPH} stands for a character that no font on the machine has; the report's text has it."
        fonts.put(figure, 0.02, 0.018, note, size=8, color=_PALE_INK)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _subtitle(figures: Figures) -> str:
    if not figures.events:
        return "no events"
    return (
        f"{figures.events:,} events of {figures.accounts:,} accounts, {figures.posts:,} posts by "
        f"{figures.posting_accounts:,} accounts, {figures.deletes:,} deletes"
    )


def _panel(figure: Figure, fonts: Fonts, title: str, place: tuple[float, float, float, float]) -> Axes:
    """Empty axes at a place of the picture: left, bottom, width and height, as shares of the picture's."""
    axes: Axes = figure.add_axes(place)
    axes.set_title(title, loc="left", fontsize=12, weight="bold", color=_INK, pad=9, **fonts.plain)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_PALE_INK)
    axes.tick_params(labelsize=9, labelcolor=_PALE_INK, color=_PALE_INK, length=3)
    axes.set_axisbelow(True)
    return axes


def _draw_minutes(axes: Axes, stack: Sequence[Series], window: Window, fonts: Fonts) -> None:
    """Each minute's events as one step, the most frequent collection at the bottom."""
    minutes = int((window.end - window.start).total_seconds()) // 60
    ground = [0] * minutes
    for place, series in enumerate(stack):
        top = [below + more for below, more in zip(ground, series.per_minute, strict=True)]
        colour = _colour(series, place)
        axes.stairs(top, range(minutes + 1), baseline=ground, fill=True, facecolor=colour, edgecolor="none")
        ground = top
    axes.set_xlim(0, minutes)
    axes.set_ylim(0, 1.06 * max(1, *ground))
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    _count_on(axes.yaxis, 6)
    ticks = range(0, minutes + 1, 10)
    axes.set_xticks(ticks, [f"{(window.start.hour + at // 60) % 24:02}:{at % 60:02}" for at in ticks], **fonts.plain)
    _name_axes(axes, "Time of witnessing (UTC)", "Events", fonts)
    _draw_legend(axes, stack, fonts)
    if not stack:
        _draw_nothing(axes, fonts)


def _colour(series: Series, place: int) -> str:
    """A collection's by its place in the stack, where the collections are first."""
    if series.collection is not None:
        return _COLLECTION_COLOURS[place % len(_COLLECTION_COLOURS)]
    return _REST_COLOUR if series.is_rest else _KIND_COLOURS.get(series.kind, _ANOTHER_KIND_COLOUR)


def _draw_legend(axes: Axes, stack: Sequence[Series], fonts: Fonts) -> None:
    """Beside the panel, in the order of the stack, with each one's sum."""
    shares = axes.transAxes
    for place, series in enumerate(stack):
        y = 0.97 - 0.1 * (len(stack) - 1 - place)
        axes.plot(1.02, y, "s", markersize=9, color=_colour(series, place), transform=shares, clip_on=False)
        name = fonts.fitting(series.label, 9, _NAME_WIDTH)
        fonts.put(axes, 1.035, y, name, size=9, color=_INK, transform=shares)
        fonts.put(axes, 1.31, y, f"{series.total:,}", size=9, color=_PALE_INK, transform=shares, ha="right")


@dataclass(frozen=True)
class _Bar:
    name: str
    posts: int
    is_rest: bool = False


def _bars(ranking: Iterable[Ranked]) -> list[_Bar]:
    return [_Bar(one.name, one.posts) for one in ranking]


def _languages(figures: Figures) -> list[_Bar]:
    rest = [_Bar("other", figures.languages_other, True), _Bar("unstated", figures.languages_unstated, True)]
    return [*_bars(figures.languages), *(bar for bar in rest if bar.posts)]


def _draw_bars(axes: Axes, bars: Sequence[_Bar], colour: str, fonts: Fonts) -> None:
    """One bar a name, the first one on top; its posts stand at its end."""
    places = range(len(bars))
    colours = [_REST_COLOUR if bar.is_rest else colour for bar in bars]
    axes.barh(places, [bar.posts for bar in bars], 0.74, color=colours)
    most = max((bar.posts for bar in bars), default=1)
    for place, bar in zip(places, bars, strict=True):
        fonts.put(axes, bar.posts + 0.02 * most, place, f"{bar.posts:,}", size=8.5, color=_PALE_INK)
    axes.set_xlim(0, 1.3 * most)
    axes.set_ylim(max(len(bars), 10) - 0.4, -0.6)
    names = [fonts.fitting(bar.name, 9, _NAME_WIDTH) for bar in bars]
    axes.set_yticks(places, names, fontsize=9, color=_INK, **fonts.plain)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    _count_on(axes.xaxis, 4)
    _name_axes(axes, "Posts", "", fonts)
    if not bars:
        _draw_nothing(axes, fonts)


def _name_axes(axes: Axes, x: str, y: str, fonts: Fonts) -> None:
    axes.set_xlabel(x, fontsize=9, color=_PALE_INK, **fonts.plain)
    axes.set_ylabel(y, fontsize=9, color=_PALE_INK, **fonts.plain)


def _count_on(axis: Axis, most_ticks: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(most_ticks, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


def _draw_nothing(axes: Axes, fonts: Fonts) -> None:
    fonts.put(axes, 0.5, 0.5, "none in this window", size=11, color=_PALE_INK, transform=axes.transAxes, ha="center")
