"""The fonts of pictures: which there are on the machine, and what of strangers' text can be drawn with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jetstream_pipeline.report.labels import label, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.ft2font import FT2Font

NO_GLYPH = "□"
"""Stands for a character that none of the fonts has."""

_FAMILIES = (
    "DejaVu Sans",
    *("Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "Hiragino Sans", "Yu Gothic", "Meiryo"),
    *("Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "Apple SD Gothic Neo"),
    *("Noto Sans CJK SC", "Noto Sans SC", "Microsoft YaHei", "PingFang SC"),
    *("Noto Sans Thai", "Noto Sans Devanagari", "Noto Sans Symbols", "Noto Emoji"),
)
"""The first comes with matplotlib; the others are used where the machine has them."""
_LONGEST = 60


@dataclass(frozen=True)
class Fonts:
    """The fonts that a renderer finds."""

    renderer: RendererAgg
    families: list[str]
    faces: list[FT2Font]

    @classmethod
    def of(cls, renderer: RendererAgg) -> Fonts:
        from matplotlib.font_manager import FontProperties, findfont, get_font, get_font_names

        there = set(get_font_names())
        families = [name for name in _FAMILIES if name in there]
        return cls(renderer, families, [get_font(findfont(FontProperties(family=[name]))) for name in families])

    @property
    def plain(self) -> dict[str, Any]:
        """A text's properties: no character of it means anything but itself."""
        return {"family": self.families, "parse_math": False, "usetex": False}

    def put(
        self, on: Figure | Axes, x: float, y: float, text: str, *, size: float, color: str, **properties: Any
    ) -> None:
        """Write a text at a place, its line's middle at `y`."""
        on.text(x, y, text, fontsize=size, color=color, va="center_baseline", **self.plain, **properties)

    def fitting(self, text: str, size: float, width: float) -> str:
        """Strangers' text as it can be drawn in `width` pixels, at a size in points."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(family=self.families, size=size)
        whole = "".join(map(self._drawable, label(text, _LONGEST)))
        longest = len(whole)
        while longest > 1 and self._width(shortened(whole, longest), font) > width:
            longest -= 1
        return shortened(whole, longest)

    def _drawable(self, character: str) -> str:
        return character if any(face.get_char_index(ord(character)) for face in self.faces) else NO_GLYPH

    def _width(self, text: str, font: FontProperties) -> float:
        return self.renderer.get_text_width_height_descent(text, font, ismath=False)[0]
