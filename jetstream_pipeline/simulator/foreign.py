"""Records of lexicons that are not Bluesky's, the odd ones among them.

Strangers may write anything into their repositories; a little of that anything is here.
"""

from typing import Any

from jetstream_pipeline.simulator.accounts import Account
from jetstream_pipeline.simulator.randomness import Dice
from jetstream_pipeline.simulator.texts import phrase
from jetstream_pipeline.simulator.vocabulary import TITLES

Record = dict[str, Any]

LONE_SURROGATE = "�"
"""Stands for a lone surrogate, which only JSON can spell; the record's CID is that of this character."""
HALF_A_PAIR = "\\ud83d"
"""How JSON spells it."""

_NESTING = 50


def blog_entry(dice: Dice, language: str, created_at: str) -> Record:
    paragraphs = "\n\n".join(phrase(dice, language, 12) for _ in range(2 + dice.below(6)))
    return {
        "$type": "com.whtwnd.blog.entry",
        "content": f"# {TITLES[dice.below(len(TITLES))]}\n\n{paragraphs}",
        "createdAt": created_at,
        "theme": "github-light",
        "title": TITLES[dice.below(len(TITLES))],
        "visibility": "public",
    }


def scrobble(dice: Dice, account: Account, created_at: str) -> Record:
    title = phrase(dice, account.language, 2)
    return {
        "$type": "fm.teal.alpha.feed.play",
        "artists": [{"artistName": account.handle.split(".")[0]}],
        "duration": 90 + dice.below(300),
        "playedTime": created_at,
        "submissionClientAgent": "synthetic/1.0",
        "trackName": title,
    }


def oddity(dice: Dice, created_at: str) -> Record:
    """Well-formed, and yet nothing that a careless reader survives."""
    record: Record = {"$type": "com.example.oddity", "createdAt": created_at}
    kind = dice.below(4)
    if kind == 0:
        record["text"] = f"half a pair: {LONE_SURROGATE} and on"
    elif kind == 1:
        record["text"] = "before\x00after"
    elif kind == 2:
        record["value"] = (1 << 53) + 1 + dice.below(1 << 60)
    else:
        nested: Any = "the bottom"
        for level in range(_NESTING):
            nested = [nested] if level % 2 else {"deeper": nested}
        record["value"] = nested
    return record
