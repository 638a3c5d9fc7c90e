"""A report's picture is drawn whatever strangers wrote, without a warning and without touching anything else."""

import io
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Iterator

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from jetstream_pipeline.report.figures import Figures, Ranked, Series
from jetstream_pipeline.report.fonts import NO_GLYPH, Fonts
from jetstream_pipeline.report.pictures import HEIGHT, WIDTH, drawn
from jetstream_pipeline_tests.windows import HOUR

HOSTILE = [
    "$x$", "$\\frac{", "\\alpha", "日本語のハッシュタグ", "العربية", "हिन्दी", "ภาษาไทย", "😀👍🏽",
    "\U0001f469\u200d\U0001f467", "\u202eevil", "\0\a", "", "_hidden", "x" * 100_000, "W" * 60, "z" + "\u0301" * 500,
    "𒐫" * 30, "﷽", "\n\n", "\ud800", "<b>|`", "%s{0}", "\U000f0000",
]  # fmt: skip


def figures(names: list[str], events: int = 40_000) -> Figures:
    ranking = tuple(Ranked(name=name, posts=10 + place) for place, name in enumerate(names))
    stack = [
        Series(kind="commit", collection=name, per_minute=tuple(events // (place + 1) + minute for minute in range(60)))
        for place, name in enumerate(names[:6])
    ]
    for kind in ("commit", "account", "identity", "sync"):
        stack.append(Series(kind=kind, collection=None, per_minute=(events // 99,) * 60))
    return Figures(
        events=2_500_000,
        accounts=614_784,
        creates=1,
        updates=1,
        deletes=112_480,
        posts=260_384,
        posting_accounts=191_712,
        events_elsewhere=0,
        per_minute=tuple(stack),
        languages=tuple(Ranked(name=name, posts=100_000) for name in ("en", "ja", "pt", "de")),
        languages_other=10_000,
        languages_unstated=20_000,
        hashtags=ranking,
        domains=ranking,
        addresses=(),
        columns=(),
    )


def nothing() -> Figures:
    counted = {name: 0 for name, field in Figures.model_fields.items() if field.annotation is int}
    return Figures(**counted, per_minute=(), languages=(), hashtags=(), domains=(), addresses=(), columns=())


@pytest.fixture
def unwarned(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is warned of, or logged as a warning, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


@pytest.mark.parametrize(
    "made", [nothing(), figures(["app.bsky.feed.post"]), figures(HOSTILE[:15]), figures(HOSTILE[-15:], 10**15)]
)
def test_a_picture_has_its_size_and_is_no_large_file(made: Figures, unwarned: None) -> None:
    png = drawn(made, "network", HOUR)
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (WIDTH, HEIGHT))
    assert len(png) < 200_000


def test_the_same_figures_make_the_same_picture_and_others_another() -> None:
    assert drawn(figures(["a"]), "network", HOUR) == drawn(figures(["a"]), "network", HOUR)
    different = {drawn(made, "network", HOUR) for made in (nothing(), figures(["a"]), figures(["b"]), figures(["$a$"]))}
    assert len(different) == 4


def test_a_dollar_is_a_dollar() -> None:
    """As formulas the first two would look the same."""
    pictures = {drawn(figures([name]), "network", HOUR) for name in ("$b$", "$\\mathit{b}$", "b", "$\\nothing")}
    assert len(pictures) == 4


FONTS = Fonts.of(FigureCanvasAgg(Figure()).get_renderer())


def width(text: str) -> float:
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=FONTS.families, size=9)
    return FONTS.renderer.get_text_width_height_descent(text, font, ismath=False)[0]


@given(st.text() | st.sampled_from(HOSTILE) | st.text("Wम﷽𒐫日", min_size=20))
def test_a_name_fits_and_every_character_of_it_can_be_drawn(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = FONTS.fitting(text, 9, 175)
        assert shown
        assert width(shown) <= 175
    assert not any(unicodedata.category(character).startswith("C") for character in shown)


def test_a_character_without_a_glyph_is_a_box() -> None:
    assert FONTS.fitting("a\U00012345b", 9, 175) == f"a{NO_GLYPH}b"


def test_boxes_are_explained_where_there_are_any() -> None:
    for name, explained in (("a", False), ("\U00012345", True)):
        with Image.open(io.BytesIO(drawn(figures([name]), "network", HOUR))) as image:
            last_lines = image.convert("L").crop((0, HEIGHT - 30, WIDTH, HEIGHT))
        assert (set(last_lines.tobytes()) != {255}) == explained


def test_a_long_name_is_cut_where_it_no_longer_fits() -> None:
    narrow, wide = FONTS.fitting("i" * 60, 9, 175), FONTS.fitting("W" * 60, 9, 175)
    assert wide.endswith("…")
    assert len(wide) < len(narrow)


def test_nothing_global_is_touched_and_pyplot_stays_away() -> None:
    before = dict(mpl.rcParams)
    script = (
        "import sys\n"
        "import jetstream_pipeline.report.build, jetstream_pipeline.report.pictures as pictures\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from jetstream_pipeline_tests.report.test_pictures import figures, HOUR\n"
        "pictures.drawn(figures(['a']), 'network', HOUR)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    drawn(figures(["a"]), "network", HOUR)
    assert dict(mpl.rcParams) == before
