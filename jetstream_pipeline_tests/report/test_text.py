"""A report's text reads as it was meant, whatever strangers wrote into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from jetstream_pipeline.report.figures import Figures, Ranked, Series, Sized
from jetstream_pipeline.report.labels import label
from jetstream_pipeline.report.text import written
from jetstream_pipeline_tests.windows import HOUR

HOSTILE = [
    "`", "``` `", "a`b", "|", "a|b", "\\|", "\\", "\\`", "<script>alert(1)</script>", "![x](https://e.example/x.png)",
    "[x](javascript:alert(1))", "https://e.example", "www.e.example", "a@e.example", "**b**", "&lt;b&gt;", "~~x~~",
    "\n\n# title", "\r| x |", "\u2028- x", "$$x$$", "<!--", "-->", "a  b", " ", "", "\0", "\u202ex", "_x_", ":---:",
]  # fmt: skip


def figures(names: list[str], collection: str = "app.bsky.feed.post", **more: int) -> Figures:
    ranking = tuple(Ranked(name=name, posts=1_000 + place) for place, name in enumerate(names))
    counts = {"events": 1_234, "accounts": 3, "creates": 1, "updates": 0, "deletes": 0, "posts": 1_000}
    rest = {"posting_accounts": 2, "events_elsewhere": 0, "languages_other": 0, "languages_unstated": 0}
    series = Series(kind="commit", collection=collection, per_minute=(1_234,) + (0,) * 59)
    return Figures(
        **{**counts, **rest, **more},
        per_minute=(series,),
        languages=(),
        hashtags=ranking,
        domains=ranking,
        addresses=ranking,
        columns=(Sized(column="record", bytes=40_000), Sized(column="time_us", bytes=2_000)),
    )


def parsed(text: str) -> list[Token]:
    """Every token, inline ones too."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return [inner for token in tokens for inner in (token, *(token.children or ()))]


def cells(text: str) -> list[str]:
    """What stands in code spans."""
    return [token.content for token in parsed(text) if token.type == "code_inline"]


@given(st.lists(st.text() | st.sampled_from(HOSTILE), min_size=1, max_size=15), st.text() | st.sampled_from(HOSTILE))
def test_strangers_text_stands_in_its_cell_and_means_nothing(names: list[str], collection: str) -> None:
    text = written(figures(names, collection), "network", HOUR, "report.png")
    expected = ["network", label(collection, 120), *(label(name, 120) for _ in range(3) for name in names)]
    assert cells(text) == [name.replace("|", "¦") for name in expected]
    tokens = parsed(text)
    kinds = [token.type for token in tokens]
    assert not {"html_inline", "html_block", "link_open", "strong_open", "em_open", "s_open", "hr"} & set(kinds)
    assert (kinds.count("image"), kinds.count("table_open"), kinds.count("heading_open")) == (1, 5, 6)
    assert kinds.count("td_open") == 2 * (1 + 3 * len(names) + 2)


def test_the_picture_is_where_it_is_said_to_be() -> None:
    for place in ("report.png", "data:image/png;base64,AAA+/=", "a folder/x (1).png"):
        (image,) = [token for token in parsed(written(figures(["a"]), "network", HOUR, place)) if token.type == "image"]
        assert image.attrs["src"] == place.replace(" ", "%20")


def test_the_text_tells_totals_and_tables() -> None:
    made = figures(["birds"], languages_other=4, languages_unstated=5, events_elsewhere=6)
    text = written(made, "network", HOUR, "report.png")
    assert text.startswith("# `network`, 2026-07-04 14:00–15:00 UTC\n")
    for line in (
        "- 1,234 events of 3 accounts: 1 creates, 0 updates, 0 deletes",
        "- 1,000 posts by 2 accounts",
        "- 6 events with a time outside of the window, which no minute has",
        "| `app.bsky.feed.post` | 1,234 |",
        "| others | 4 |",
        "| unstated | 5 |",
        "| `birds` | 1,000 |",
    ):
        assert f"\n{line}\n" in text


def test_no_events_are_told_and_have_no_tables() -> None:
    nothing = figures([], events=0, posts=0).model_copy(update={"per_minute": ()})
    text = written(nothing, "network", HOUR, "report.png")
    assert "\nNo events.\n" in text
    assert "|" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\u202eb\u2066c\u200bd", "abcd"),
        ("a\0\x1b[31m", "a[31m"),
        ("a\n\t \u00a0b", "a b"),
        ("e" + "\u0301\u0302\u0303" * 30, "é\u0302\u0303"),
        ("\u3164\u115f\ufe0f", "(not printable)"),
        ("\ud83d", "(not printable)"),
        ("", "(not printable)"),
        ("x" * 10, "x" * 10),
        ("x" * 11, "x" * 9 + "…"),
        ("日本語", "日本語"),
    ],
)
def test_a_label_is_what_can_be_seen(text: str, shown: str) -> None:
    assert label(text, 15 if shown == "(not printable)" else 10) == shown


@given(st.text(), st.integers(1, 40))
def test_a_label_is_one_line_no_longer_than_asked(text: str, longest: int) -> None:
    shown = label(text, longest)
    assert 1 <= len(shown) <= longest
    assert shown.isprintable()
    assert shown == " ".join(shown.split())


def test_bytes_on_disk_are_told_by_column() -> None:
    text = written(figures([]), "network", HOUR, "report.png")
    assert "42,000 bytes on disk, 34.0 an event" in text
    assert "| record | 40,000 |\n| time_us | 2,000 |" in text
