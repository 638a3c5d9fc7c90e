"""The text of a post, with the facets that mark its hashtags, links and mentions in UTF-8 bytes.

Only language is made here; embeds and references belong to `records`.
"""

from dataclasses import dataclass, field
from typing import Any

from jetstream_pipeline.simulator.accounts import Account
from jetstream_pipeline.simulator.randomness import Dice
from jetstream_pipeline.simulator.vocabulary import EMOJI, PHRASES, SITES, SPACELESS, TAGS, TITLES

_SHORT_URL_CHARACTERS = 26
_CHOICES = 1 << 64
"""More than a dozen choices among the phrases of a language."""


@dataclass
class Text:
    """A text that grows piece by piece."""

    text: str = ""
    facets: list[dict[str, Any]] = field(default_factory=list)

    def add(self, piece: str, **feature: str) -> None:
        """Append a piece; with a feature (`type`, and one property) it becomes a facet."""
        if self.text:
            self.text += " "
        start = len(self.text.encode())
        self.text += piece
        if feature:
            kind = feature.pop("type")
            described = {"$type": f"app.bsky.richtext.facet#{kind}", **feature}
            index = {"byteEnd": start + len(piece.encode()), "byteStart": start}
            self.facets.append({"features": [described], "index": index})


@dataclass(frozen=True)
class Link:
    uri: str
    title: str


def phrase(dice: Dice, language: str, longest: int) -> str:
    """Some phrases in one language: rather few than many."""
    phrases = PHRASES[language]
    number = 1 + min(dice.below(longest), dice.below(longest))
    choices = dice.below(_CHOICES)
    chosen = []
    for _ in range(number):
        choices, choice = divmod(choices, len(phrases))
        chosen.append(phrases[choice])
    return ("" if language in SPACELESS else " ").join(chosen)


def link(dice: Dice) -> Link:
    page = f"{2020 + dice.below(7)}/{dice.below(100_000)}?from=social&n={dice.below(50)}"
    return Link(f"https://{SITES[dice.below(len(SITES))]}/{page}", TITLES[dice.below(len(TITLES))])


def post_text(dice: Dice, language: str, longest: int, mentioned: Account | None, linked: Link | None) -> Text:
    """What somebody writes."""
    text = Text()
    if mentioned is not None:
        text.add("@" + mentioned.handle, did=mentioned.did, type="mention")
    text.add(phrase(dice, language, longest))
    if dice.chance(180):
        text.add(EMOJI[dice.below(len(EMOJI))] * (1 + dice.below(3)))
    if dice.chance(60):
        text.text += "\n\n" + phrase(dice, language, longest)
    if linked is not None:
        shown = linked.uri.removeprefix("https://")
        text.add(shown[:_SHORT_URL_CHARACTERS] + "...", type="link", uri=linked.uri)
    if dice.chance(120):
        for _ in range(1 + dice.below(4)):
            tag = TAGS[dice.below(len(TAGS))]
            text.add("#" + tag, tag=tag, type="tag")
    return text
